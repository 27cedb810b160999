"""Windows: where stories begin, what is cut, and what a window counts."""

import dataclasses

import numpy as np
import pytest

from lm_jax.config import Config, DataConfig, ModelConfig
from lm_jax.data import dataset, storyworld
from lm_jax.data.tokenizers.sentencepiece import SentencePiece, train_tokenizer
from lm_jax.data.windows import (
    cached_windows,
    num_tokens,
    pack,
    pack_all,
    without_given,
)
from lm_jax.types import EOS, PAD

A, B, C, D, E = (np.full(n, i, np.uint16) for i, n in enumerate([3, 2, 6, 1, 4], 5))
TEXTS = [f"Number {i} is {'odd' if i % 2 else 'even'}.\nThe end." for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def test_story_windows_are_as_written_by_hand():
    """EOS (4) after each story, the cut rest dropped, PAD (0) only at the very end."""
    windows = pack([A, B, C, D, E, A, D], 8, "document")
    assert windows.tolist() == [
        [5, 5, 5, 4, 6, 6, 4, 7],  # C is cut, and the next window begins with D
        [8, 4, 9, 9, 9, 9, 4, 5],  # A is cut
        [8, 4, 0, 0, 0, 0, 0, 0],
    ]
    assert windows.dtype == np.uint16
    assert num_tokens(windows) == 18


def test_a_story_that_fits_exactly_is_whole():
    """A window may end with an EOS, or with a story whose EOS was cut."""
    assert pack([A, E, D], 4, "document").tolist() == [
        [5, 5, 5, 4],
        [9] * 4,
        [8, 4, 0, 0],
    ]


def test_a_long_story_is_cut_and_never_continued():
    """One story is longer than the window; the next window begins with the next."""
    assert pack([C, A, D], 4, "document").tolist() == [
        [7] * 4,
        [5, 5, 5, 4],
        [8, 4, 0, 0],
    ]


def test_stream_windows_are_as_written_by_hand():
    """No EOS, no PAD, stories continued, the last partial window dropped."""
    windows = pack([A, B, C, D, E], 5, "stream")
    assert windows.tolist() == [[5, 5, 5, 6, 6], [7, 7, 7, 7, 7], [7, 8, 9, 9, 9]]
    assert num_tokens(windows) == 15


def test_every_story_window_begins_with_a_story():
    """On random lengths: starts, order, and what lies between, by a plain loop."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 500)
    stories = [np.full(n, 5 + i, np.uint16) for i, n in enumerate(sizes)]
    rows, row = [], []
    for story in stories:
        row += [*story, EOS]
        if len(row) >= 48:
            rows.append(row[:48])
            row = []
    rows.append(row + [PAD] * (48 - len(row)))
    assert pack(stories, 48, "document").tolist() == rows


def test_empty_stories_leave_no_trace():
    """No window begins with an EOS."""
    empty = np.zeros(0, np.uint16)
    assert pack([empty, A, empty, B], 7, "document").tolist() == [[5, 5, 5, 4, 6, 6, 4]]


def test_windows_too_short_for_the_stories_are_refused():
    """The error names the length, the median story, and two ways out; both work."""
    message = "model.length=4 .*median length is 7: .*model.length=14.*windows=stream"
    with pytest.raises(ValueError, match=message):
        pack([C, C, C, A], 4, "document")
    assert (
        len(pack([C, C, C, A], 14, "document")) == len(pack([C] * 3, 6, "stream")) - 1
    )


def test_nothing_to_pack_is_an_error():
    """No text, too little text and an unknown mode are each one sentence."""
    with pytest.raises(ValueError, match="no text"):
        pack([], 8, "document")
    with pytest.raises(ValueError, match="9 tokens .*model.length=10.*--config"):
        pack([A, C], 10, "stream")
    with pytest.raises(ValueError, match="'strem'.*'document' or 'stream'"):
        pack([A], 8, "strem")


def test_cached_windows_are_read_not_made(tokenizer, tmp_path):
    """The second call touches neither the texts nor the tokenizer's encoder."""

    def read(texts, **changes):
        arguments = {"length": 32, "mode": "document", "fingerprint": "a", **changes}
        return cached_windows(texts, tokenizer, directory=tmp_path, **arguments)

    def unread():
        raise AssertionError("the texts were read")
        yield

    windows = read(TEXTS)
    assert windows.tolist() == pack(tokenizer.encode(TEXTS), 32, "document").tolist()
    again = read(unread())
    assert isinstance(again, np.memmap) and again.tolist() == windows.tolist()
    for change in ({"length": 40}, {"mode": "stream"}, {"fingerprint": "b"}):
        with pytest.raises(AssertionError, match="were read"):
            read(unread(), **change)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_windows_are_made_anew(tokenizer, tmp_path, damage):
    """A truncated file, a single flipped bit and an empty file are all noticed."""

    def read():
        arguments = {"fingerprint": "a", "directory": tmp_path}
        return cached_windows(TEXTS, tokenizer, 32, "document", **arguments).tolist()

    windows = read()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes({"cut": data[:-50], "flip": data, "empty": b""}[damage])
    assert read() == windows


@pytest.mark.parametrize("mode", ["document", "stream"])
def test_bytes_of_windows_are_bytes_of_their_text(tokenizer, mode):
    """Decoded text plus one byte for each EOS; PAD is nothing."""
    windows = pack(tokenizer.encode(TEXTS), 24, mode)
    stories = [text for row in windows for text in tokenizer.documents(row)]
    num_eos = np.count_nonzero(windows == EOS)
    expected = sum(len(text.encode()) for text in stories) + num_eos
    assert dataset.num_bytes(tokenizer, windows) == expected
    if mode == "stream":
        lost = len(tokenizer.encode(["".join(TEXTS)])[0]) - windows.size
        assert expected <= len("".join(TEXTS).encode()) and lost < 40


def test_bytes_of_many_windows_are_all_counted(tokenizer):
    """Of more windows than are counted at a time."""
    (token,) = {int(ids[0]) for ids in tokenizer.encode(["Number 1 is odd."])}
    windows = np.full((9_000, 2), token, np.uint16)
    per_token = dataset.num_bytes(tokenizer, windows[:1]) // 2
    assert per_token > 0
    assert dataset.num_bytes(tokenizer, windows) == 18_000 * per_token


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    cache_dir = str(tmp_path_factory.mktemp("cache"))
    data = DataConfig(num_stories=150, num_valid_stories=30, cache_dir=cache_dir)
    return Config(data=data, model=ModelConfig(length=500, vocab_size=400))


def test_a_dataset_is_its_stories(cfg):
    """Every window decodes to stories of its split, in order; the last may be cut."""
    data = dataset.load(cfg)
    splits = (data.train, data.train_documents), (data.valid, data.valid_documents)
    for windows, stories in splits:
        assert windows.shape[1] == 500
        position = 0
        for row in windows:
            for text in data.tokenizer.documents(row):
                assert stories[position].startswith(text)
                position += 1
        assert position == len(stories)
    assert data.valid_documents == storyworld.generate(0, 30)
    assert (data.name, len(data.train_documents)) == ("storyworld", 150)


def test_the_tokenizer_sees_the_training_split_only(cfg):
    """It equals one that was trained on these texts alone, in whatever order."""
    data = dataset.load(cfg)
    alone = train_tokenizer(data.train_documents, 400)
    ids = range(400)
    assert isinstance(data.tokenizer, SentencePiece)
    assert alone._processor.id_to_piece(ids) == data.tokenizer._processor.id_to_piece(
        ids
    )


def test_a_loaded_dataset_is_cached(cfg, monkeypatch):
    """The second load trains and tokenises nothing, and is the same."""
    first = dataset.load(cfg)
    monkeypatch.setattr(dataset, "train_tokenizer", None)
    monkeypatch.setattr(SentencePiece, "encode", None)
    second = dataset.load(cfg)
    assert second.fingerprint == first.fingerprint
    assert second.tokenizer.fingerprint == first.tokenizer.fingerprint
    np.testing.assert_array_equal(second.train, first.train)
    np.testing.assert_array_equal(second.valid, first.valid)


def test_a_given_tokenizer_is_used(cfg, tokenizer):
    """A run reads the data with the tokenizer that it was trained with."""
    data = dataset.load(cfg, tokenizer)
    assert data.tokenizer is tokenizer
    assert tokenizer.documents(data.valid[0])[0] == data.valid_documents[0]


def test_a_vocabulary_that_the_corpus_does_not_allow_is_refused(cfg):
    """The error comes before anything is packed."""
    model = dataclasses.replace(cfg.model, vocab_size=60_000)
    with pytest.raises(ValueError, match="vocab_size=60000.*--config.model.vocab_size"):
        dataset.load(dataclasses.replace(cfg, model=model))


def test_the_default_config_fits_its_corpus(tmp_path):
    """Storyworld allows the default vocabulary, and its stories the default window."""
    data = DataConfig(num_stories=4_000, cache_dir=str(tmp_path), num_valid_stories=50)
    loaded = dataset.load(Config(data=data))
    assert loaded.tokenizer.vocab_size == Config().model.vocab_size
    assert loaded.train.shape[1] == Config().model.length


def test_real_stories_survive_the_round_trip(tinystories_dir, tmp_path):
    """TinyStories: windows begin with stories, and their text is the stories' text."""
    data = DataConfig(
        corpus="tinystories",
        train_files=(str(tinystories_dir / "valid.txt"),),
        valid_share=0.2,
        cache_dir=str(tmp_path),
    )
    loaded = dataset.load(Config(data=data, model=ModelConfig(length=256)))
    decoded = map(
        loaded.tokenizer.decode, loaded.tokenizer.encode(loaded.valid_documents)
    )
    assert list(decoded) == loaded.valid_documents
    beginnings = {text[:20] for text in loaded.valid_documents}
    for row in loaded.valid:
        assert loaded.tokenizer.documents(row)[0][:20] in beginnings
    assert np.count_nonzero(loaded.train[:-1] == PAD) == 0
    per_token = dataset.num_bytes(loaded.tokenizer, loaded.valid) / num_tokens(
        loaded.valid
    )
    assert 2.0 < per_token < 4.0


# Windows of a whole text.

NUMBERS = [np.arange(start, start + n) for start, n in ((10, 3), (20, 17), (50, 1))]


@pytest.mark.parametrize("mode", ["document", "stream"])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("stride", [0, 1, 2, 3, 5, 7])
def test_every_token_is_scored_once_in_view_of_those_before_it(mode, alone, stride):
    """In order, whatever the stride; the tokens before it in its window are those
    before it in the text, at least length - stride of them where there are so many."""
    length = 7
    found = pack_all(NUMBERS, length, mode, stride, alone)
    end = [EOS] if mode == "document" else []
    documents = [[*tokens.tolist(), *end] for tokens in NUMBERS]
    text = sum(documents, [])
    scored = without_given(found.windows, found.num_given)
    assert scored[scored != PAD].tolist() == text
    one_text = mode == "stream" and not alone
    starts = np.cumsum([0, *map(len, [text] if one_text else documents)])
    position = 0
    for window, num_given in zip(found.windows, found.num_given, strict=True):
        for at in range(num_given, np.sum(window != PAD)):
            begin = starts[np.searchsorted(starts, position, side="right") - 1]
            wanted = min(position - begin, length - (stride or length))
            in_view = window[max(at - wanted, 0) : at].tolist()
            assert in_view == text[position - wanted : position]
            position += 1


def test_documents_of_several_windows_are_counted():
    """By hand: 3, 17 and 1 tokens, which begin at 0, 3 and 20 in a stream."""
    for stride in (0, 2, 7):
        assert pack_all(NUMBERS, 7, "document", stride).num_cut == 1
        assert pack_all(NUMBERS, 17, "stream", stride, alone=True).num_cut == 0
        assert pack_all(NUMBERS, 17, "document", stride).num_cut == 1  # its EOS
        assert (
            pack_all(NUMBERS, 20, "stream", stride).num_cut == 0
        )  # the cut is between
        assert pack_all(NUMBERS, 19, "stream", stride).num_cut == 1
    two = [np.arange(10, 22), np.arange(30, 33)]  # of which a stride of 2 cuts the last
    assert pack_all(two, 12, "stream").num_cut == 0
    assert pack_all(two, 12, "stream", stride=2).num_cut == 1


def test_documents_alone_share_no_window():
    """The index of each window is that of its document."""
    assert len(pack_all([A, B], 7, "document").windows) == 1
    assert len(pack_all([A, B], 7, "document", alone=True).windows) == 2
    found = pack_all(NUMBERS, 7, "document", 3, alone=True)
    for window, document in zip(found.windows, found.document, strict=True):
        tokens = set(window.tolist()) - {EOS, PAD}
        assert tokens <= set(NUMBERS[document].tolist())
    assert found.document.tolist() == [0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("mode", ["document", "stream"])
def test_no_text_is_refused(mode):
    """Rather than scored as no windows."""
    with pytest.raises(ValueError, match="no text to score"):
        pack_all([], 7, mode)
