"""Corpora: no story is lost, none is on both sides, and each is prepared once."""

import dataclasses
import gzip
import hashlib
import http.server
import lzma
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.units import Size

from lm_jax.config import DataConfig
from lm_jax.data import corpora, storyworld, text_files, tinystories
from lm_jax.data.corpora import prepare
from lm_jax.validation import split_list

STORIES = [f"Story {i} of a cat.\nIt sat  on mat {i}." for i in range(40)]


@pytest.fixture
def write(tmp_path):
    """Writes bytes or stories, and returns the path as a flag would give it."""

    def write(name, content):
        if isinstance(content, list):
            content = "\n<|endoftext|>\n".join(content).encode()
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


@pytest.fixture
def text(tmp_path, write):
    """Prepares a corpus of files given as {field: stories or bytes}."""

    def prepare_text(train=STORIES, valid=None, corpus="text", **fields):
        files = {"train_files": train, "valid_files": valid}
        for field, content in files.items():
            if content is not None:
                is_path = isinstance(content, str)
                path = content if is_path else write(f"{field}.txt", content)
                fields[field] = tuple(split_list(path))
        cache_dir = str(tmp_path / "cache")
        return prepare(DataConfig(corpus=corpus, cache_dir=cache_dir, **fields))

    return prepare_text


def test_a_held_out_share_splits_the_documents(text):
    """Every document is on exactly one side, and keeps its place in the order."""
    corpus = text(valid_share=0.25)
    assert len(corpus.valid) == 10
    assert not set(corpus.train) & set(corpus.valid)
    assert sorted([*corpus.train, *corpus.valid]) == sorted(STORIES)
    assert list(corpus.train) == [s for s in STORIES if s not in set(corpus.valid)]


def test_the_split_depends_on_texts_and_seed_alone(text, tmp_path):
    """Another order or other copies move no document; another seed does."""
    valid = set(text(valid_share=0.2).valid)
    repeated = text(STORIES[::-1] + STORIES[:30], valid_share=0.2)
    assert set(repeated.valid) == valid
    assert not set(repeated.train) & valid
    assert set(text(valid_share=0.2, seed=1).valid) != valid


def test_copies_with_other_white_space_stay_on_one_side(text):
    """A document and its copies are one document to the split."""
    copies = [story.replace(" ", "\n") for story in STORIES]
    corpus = text(STORIES + copies, valid_share=0.3)
    assert len(corpus.valid) == 24
    sides = [{" ".join(s.split()) for s in side} for side in corpus[1:3]]
    assert not sides[0] & sides[1]


def test_given_validation_files_are_the_validation_split(text):
    """With valid_files nothing is held out, and seed and share change nothing."""
    corpus = text(STORIES[:30] * 2, STORIES[30:])
    assert list(corpus.train) == STORIES[:30] * 2
    assert list(corpus.valid) == STORIES[30:]
    again = text(STORIES[:30] * 2, STORIES[30:], seed=3, valid_share=0.5)
    assert again.fingerprint == corpus.fingerprint


def test_a_leak_is_refused(text):
    """A document on both sides, whatever its white space, is counted and quoted."""
    leaked = [" ".join(STORIES[3].split()), STORIES[5]]
    with pytest.raises(ValueError, match="2 of 12 .*'Story 3 of a cat. It sat on'"):
        text(STORIES[:30], STORIES[30:] + leaked)


@pytest.mark.parametrize(
    "content, stories",
    [
        (
            b"one\n<|endoftext|>\ntwo\n\nstill two\n<|endoftext|>\n",
            ["one", "two\n\nstill two"],
        ),
        (
            b"one <|endoftext|> two<|endoftext|><|endoftext|>three",
            ["one", "two", "three"],
        ),
        (
            b"\n\none\nstill one\n \t\ntwo\n\n\n\nthree",
            ["one\nstill one", "two", "three"],
        ),
        (b"\xef\xbb\xbfone\r\nstill one\r\n\r\ntwo\r\n", ["one\nstill one", "two"]),
        ("one \u00e9  \U0001f600\n\ntwo".encode(), ["one \u00e9  \U0001f600", "two"]),
    ],
)
def test_stories_are_separated_by_marks_or_else_by_blank_lines(write, content, stories):
    """A file is its stories, without white space around them, and nothing else."""
    (path,) = text_files.paths(write("a.txt", content))
    assert list(text_files.documents(path)) == stories


def test_a_single_document_is_cut_and_its_end_validates(write, text):
    """Nothing of it is lost, and nothing of it is on both sides."""
    words = [f"word{i}" for i in range(1000)]
    corpus = text(write("a.txt", " ".join(words).encode()))
    (train,), (valid,) = corpus.train, corpus.valid
    assert f"{train} {valid}".split() == words and corpus.is_held_out
    assert 45 <= len(valid.split()) <= 55
    chinese = "从前有一只小猫它很好" * 100
    corpus = text(write("b.txt", chinese.encode()))
    assert corpus.train[0] + corpus.valid[0] == chinese and len(corpus.valid[0]) == 50


def test_the_first_edition_is_the_paper_s(text, server, monkeypatch):
    """A recipe chooses, and the corpus says which it has read."""
    other = tinystories.DOWNLOADS["second"]
    editions = {"first": other, "second": {}}
    monkeypatch.setattr(tinystories, "DOWNLOADS", editions)
    assert text(None, corpus="tinystories", edition="first").edition == "first"
    files = [str(server / f"{name}.txt") for name in ("train", "valid")]
    assert text(*files, corpus="tinystories").edition == "first"


def test_packed_files_are_the_files(write, text):
    """.gz, .xz and .txt of the same text give the same corpus; lists are joined."""
    data = "\n<|endoftext|>\n".join(STORIES).encode()
    packed = {".txt": data, ".gz": gzip.compress(data), ".xz": lzma.compress(data)}
    prints = {text(write(f"a{end}", d)).fingerprint for end, d in packed.items()}
    first, second = write("1.txt", STORIES[:7]), write("2.gz", gzip.compress(data))
    joined = text(f"{first}, {second}")
    assert len(prints) == 1
    assert len([*joined.train, *joined.valid]) == 47


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \n\n \n", "a.txt holds no document"),
        ("a.txt", b"<|endoftext|>\n", "a.txt holds no document"),
        ("a.txt", b"one\n\ntwo \x00 three", "a.txt is binary: byte 9 is zero"),
        ("a.txt", b"\xc3\xa9\n\ntwo \xff", "a.txt is not UTF-8: byte 8 is 0xff"),
        ("a.gz", gzip.compress(b"one\n\n\xe9"), "a.gz is not UTF-8: byte 5 is 0xe9"),
        ("a.gz", b"plain text", "a.gz cannot be unpacked"),
        ("a.gz", gzip.compress(b"one" * 99)[:20], "a.gz cannot be unpacked"),
        ("a.xz", b"plain text", "a.xz cannot be unpacked"),
        ("a.xz", lzma.compress(b"one" * 99)[:40], "a.xz cannot be unpacked"),
        ("a.txt", b"o", "only document has 1 characters.*--config.data.valid_files"),
        ("a.txt", b"o\n\no\n\n o ", "only document has 1 characters"),
    ],
    ids=range(12),
)
def test_bad_files_are_named(tmp_path, write, text, name, content, message):
    """One sentence says what is wrong, and nothing half-made is left behind."""
    with pytest.raises(ValueError, match=message) as error:
        text(write(name, content))
    assert "\n" not in str(error.value)
    assert not any(p.is_file() for p in (tmp_path / "cache").rglob("*"))


def test_paths_that_are_no_files_are_named(tmp_path, text):
    """A missing file, a folder and a cache that is a file are each one sentence."""
    with pytest.raises(ValueError, match="none.txt does not exist: .*--config"):
        text(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="is no file"):
        text(str(tmp_path))
    with pytest.raises(ValueError, match="cannot make .*--config.data.cache_dir"):
        prepare(DataConfig(cache_dir=__file__))


def test_files_of_another_corpus_are_not_ignored(text):
    """Files beside storyworld, and validation files alone, are refused."""
    with pytest.raises(ValueError, match="reads no files.*--config.data.corpus=text"):
        text(corpus="storyworld")
    with pytest.raises(ValueError, match="--config.data.train_files as well"):
        text(None, STORIES, corpus="tinystories")


def test_a_corpus_is_prepared_once(text, monkeypatch):
    """The second call reads what the first has written, and builds nothing."""
    first = text()
    monkeypatch.setattr(corpora, "_build", None)
    second = text()
    assert list(second.train) == list(first.train)
    assert second.fingerprint == first.fingerprint


def test_other_content_is_another_corpus(text):
    """The same path with other text is prepared anew."""
    assert text().fingerprint != text(STORIES[1:]).fingerprint
    assert text(seed=1).fingerprint != text().fingerprint


@pytest.mark.parametrize("damage", ["shard", "record", "lost"])
def test_a_damaged_corpus_is_prepared_anew(tmp_path, text, damage):
    """A truncated or missing file never passes for a corpus."""
    first = text()
    (record,) = (tmp_path / "cache").rglob("corpus.json")
    shard = next(record.parent.rglob("*train*"))
    if damage == "shard":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif damage == "record":
        record.write_text(record.read_text()[:20])
    else:
        shard.unlink()
    assert list(text().train) == list(first.train)


def test_an_interrupted_preparation_leaves_nothing(tmp_path, text, monkeypatch):
    """What is cut short is not used: the next call starts over."""

    def interrupted(train, valid):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpora.splits, "fingerprint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            text()
    assert not any(p.is_file() for p in (tmp_path / "cache").rglob("*"))
    assert len(text().train) == 38


def test_documents_are_a_sequence(text):
    """len, index, negative index, slice and iteration agree with a list."""
    train = text(STORIES[:30], STORIES[30:]).train
    stories = STORIES[:30]
    assert len(train) == 30
    assert [train[i] for i in (0, 7, -1)] == [stories[i] for i in (0, 7, -1)]
    assert train[5:25:3] == stories[5:25:3]
    assert train.read([3, 3, 1]) == [stories[3], stories[3], stories[1]]
    assert list(train) == stories and STORIES[3] in train
    with pytest.raises(IndexError):
        train[30]


def test_shards_are_small(tmp_path, text, monkeypatch):
    """No shard has more records than can be read fast, however few validate."""
    monkeypatch.setattr(corpora, "_RECORDS_PER_SHARD", 10)
    corpus = text(STORIES[:31], STORIES[31:33])
    shards = [p.name for p in (tmp_path / "cache").rglob("*array_record*")]
    assert sorted("train" in shard for shard in shards) == [
        False,
        True,
        True,
        True,
        True,
    ]
    assert list(corpus.train) == STORIES[:31]


def test_storyworld_is_its_generator(tmp_path):
    """The first stories validate, the others train; more stories change no other."""
    cfg = DataConfig(
        num_stories=30, num_valid_stories=20, seed=5, cache_dir=str(tmp_path)
    )
    corpus = prepare(cfg)
    stories = storyworld.generate(5, 50)
    assert (list(corpus.valid), list(corpus.train)) == (stories[:20], stories[20:])
    more = prepare(dataclasses.replace(cfg, num_stories=60))
    assert list(more.valid) == list(corpus.valid)
    assert more.train[:30] == list(corpus.train)


def test_storyworld_leaves_out_training_stories_that_validate(tmp_path, monkeypatch):
    """A small world tells a story twice; it trains or validates, never both."""
    tales = [f"tale {i % 7}" for i in range(30)]
    monkeypatch.setattr(storyworld, "generate", lambda seed, n: tales[:n])
    cfg = DataConfig(num_stories=20, num_valid_stories=3, cache_dir=str(tmp_path))
    corpus = prepare(cfg)
    assert list(corpus.valid) == tales[:3]
    assert list(corpus.train) == [t for t in tales[3:23] if t not in tales[:3]]


def test_builders_are_datasets_of_tfds(tmp_path, write):
    """tfds.data_source knows each by its name, once the module is imported."""
    kwargs = {"train_files": text_files.paths(write("a.txt", STORIES))}
    source: Any = tfds.data_source(
        "text",
        split="train",
        data_dir=str(tmp_path),
        builder_kwargs={"file_format": "array_record", **kwargs},
    )
    assert len(source) == 38 and source[0]["text"].decode() in STORIES


def test_tensorflow_is_not_imported(tmp_path, write):
    """Preparing and reading a corpus leaves TensorFlow alone."""
    code = """if True:
        import sys
        from lm_jax.config import DataConfig
        from lm_jax.data.corpora import prepare
        cfg = DataConfig(corpus="text", train_files=sys.argv[1], cache_dir=sys.argv[2])
        print(len(prepare(cfg).train[:]), "tensorflow" in sys.modules)
    """
    args = [sys.executable, "-c", code, write("a.txt", STORIES), str(tmp_path)]
    result = subprocess.run(args, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["38", "False"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server in the place of the official one, with two little files."""
    root = tmp_path / "server"
    root.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    monkeypatch.setattr(handler.func, "log_message", lambda *args: None)
    monkeypatch.setenv("NO_PROXY", "*")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=partial(httpd.serve_forever, 0.01), daemon=True).start()
    infos = {}
    for name, stories in (("train", STORIES), ("valid", STORIES[35:] + ["New."])):
        data = "\n<|endoftext|>\n".join(stories).encode()
        (root / f"{name}.txt").write_bytes(data)
        checksum = hashlib.sha256(data).hexdigest()
        url = f"http://127.0.0.1:{httpd.server_port}/{name}.txt"
        infos[url] = UrlInfo(Size(len(data)), checksum, name)
    monkeypatch.setattr(tinystories, "DOWNLOADS", {"first": {}, "second": infos})
    monkeypatch.setattr(corpora.Tinystories, "url_infos", infos)
    yield root
    httpd.shutdown()
    httpd.server_close()


def test_tinystories_is_downloaded(text, server):
    """The files come with their checksums verified; no story is on both sides."""
    corpus = text(None, corpus="tinystories")
    assert corpus.edition == "second" and not corpus.is_held_out
    assert list(corpus.train) == STORIES[:35]
    assert list(corpus.valid) == STORIES[35:] + ["New."]


def test_official_files_may_be_given(text, server):
    """Copies of the official files are known by their bytes, not by their names."""
    files = [str(server / f"{name}.txt") for name in ("train", "valid")]
    assert list(text(*files, corpus="tinystories").train) == STORIES[:35]
    with pytest.raises(ValueError, match="5 of 6 validation documents"):
        text(*files, corpus="text")


def test_a_download_with_another_checksum_is_refused(tmp_path, text, server):
    """One changed byte, and there is no corpus."""
    data = (server / "train.txt").read_bytes()
    (server / "train.txt").write_bytes(data.replace(b"Story 9", b"Story 8"))
    with pytest.raises(ValueError, match="download of TinyStories failed.*checksum"):
        text(None, corpus="tinystories")
    assert not list((tmp_path / "cache" / "corpora").rglob("*.json"))


def test_without_a_network_the_download_fails_at_once(text, monkeypatch):
    """Within ten seconds, and the message names the way out."""
    gone = {"second": {"http://127.0.0.1:9/train.txt": None}}
    monkeypatch.setattr(tinystories, "DOWNLOADS", gone)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="no network.*--config.data.train_files"):
        text(None, corpus="tinystories")
    assert time.perf_counter() - start < 10.0


def test_real_stories_are_read_whole(tinystories_dir, tmp_path):
    """The thousand validation stories of TinyStories: all there, none repeated."""
    path = tinystories_dir / "valid.txt"
    cfg = DataConfig(
        corpus="tinystories", train_files=(str(path),), cache_dir=str(tmp_path)
    )
    corpus = prepare(cfg)
    assert (len(corpus.train), len(corpus.valid)) == (950, 50)
    assert len({*corpus.train, *corpus.valid}) == 1000
    num_once = sum(text.startswith("Once") for text in [*corpus.train, *corpus.valid])
    assert 0.58 < num_once / 1000 < 0.71
