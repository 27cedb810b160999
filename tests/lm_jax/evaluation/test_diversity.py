"""The study's measures of variety: by hand, against NLTK, and on human stories."""

import gzip
import json
import lzma
import time

import numpy as np
import pytest
from fake_models import random_stories

from experiments.compare.diversity import read_stories, run
from lm_jax.evaluation.diversity import (
    candidate_bleus,
    distinct_n,
    diversity,
    ngram_hashes,
    self_bleu,
    unique_first_words,
    unique_openings,
    vocabulary,
    words_per_document,
)
from lm_jax.evaluation.ngrams import opening, words

STORIES = ["The cat saw the dog", "the cat ran", "", "A dog ran home. Now"]


def test_distinct_n_by_hand():
    """Pooled over stories, in lower case, and no n-gram crosses a story's end."""
    # the cat saw the dog | the cat ran | | a dog ran home. now
    assert distinct_n(STORIES, 1) == 8 / 13
    assert distinct_n(STORIES, 2) == 9 / 10
    assert distinct_n(STORIES, 3) == 7 / 7
    assert distinct_n(STORIES, 6) == 0.0
    assert distinct_n(["a"], 2) == 0.0


def test_counts_by_hand():
    """The study's "unique" is distinct values / stories; an empty one has a value."""
    assert vocabulary(STORIES) == 8
    assert unique_first_words(STORIES) == 3 / 4
    assert unique_openings(STORIES) == 4 / 4
    assert words_per_document(STORIES) == 13 / 4
    assert opening(STORIES[0], 2) == "the cat"


def test_no_variety():
    """n copies of one story: Self-BLEU is 1, and each distinct share falls by n."""
    story = "one day a cat saw a dog"
    table = diversity([story] * 10, num_resamples=20)
    assert table["self_bleu"] == (1.0, 1.0, 1.0)
    assert table["unique_first_words"].value == 0.1
    assert table["unique_openings"].value == 0.1
    assert table["distinct_1"].value == 6 / 70
    assert table["distinct_4"].value == 4 / 40
    assert table["vocabulary"] == (6.0, 6.0, 6.0)


def test_total_variety():
    """No word twice: every share is 1, Self-BLEU is 0."""
    stories = [" ".join(f"w{10 * i + j}" for j in range(8)) for i in range(10)]
    table = diversity(stories, num_resamples=20)
    for n in range(1, 5):
        assert table[f"distinct_{n}"] == (1.0, 1.0, 1.0)
    assert table["self_bleu"] == (0.0, 0.0, 0.0)
    assert table["unique_openings"].value == 1.0


def test_bleu_agrees_with_nltk_at_equal_lengths():
    """Equal lengths leave no brevity penalty, where the definitions differ."""
    nltk = pytest.importorskip("nltk.translate.bleu_score")
    stories = random_stories(20, 15, vocabulary_size=4)
    split = [story.split() for story in stories]
    expected = [
        nltk.sentence_bleu(split[:i] + split[i + 1 :], split[i])
        for i in range(len(split))
    ]
    assert min(expected) < max(expected)
    np.testing.assert_allclose(
        np.sort(candidate_bleus(stories)), np.sort(expected), rtol=1e-12
    )
    np.testing.assert_allclose(self_bleu(stories), np.mean(expected))


def test_brevity_penalty_is_against_the_mean_reference_length():
    """Lengths 4, 6 and 14: the shortest has exp(1 - 10/4), whatever is closest."""
    stories = ["a b c d", "a b c d e f", " ".join("abcdefghijklmn")]
    precisions = [4 / 6, 3 / 5, 2 / 4, 1 / 3]
    # against the other two, "a ... f" is a prefix of the longest: its precisions are 1
    expected = [np.exp(1 - 10 / 4), np.exp(1 - 9 / 6)]
    expected.append(np.prod([6 / 14, 5 / 13, 4 / 12, 3 / 11]) ** 0.25)
    np.testing.assert_allclose(np.sort(candidate_bleus(stories)), np.sort(expected))
    expected = [np.exp(1 - 6 / 4), np.prod(precisions) ** 0.25]
    np.testing.assert_allclose(self_bleu(stories[:2]), np.mean(expected))


def test_matches_are_clipped_at_the_best_reference():
    """Six a's against four and three: four count, not six and not seven."""
    stories = ["a a a a a a", "a a a a b c", "a a a d e f"]
    bleu = candidate_bleus(stories, num_references=2)
    expected = np.prod([4 / 6, 3 / 5, 2 / 4, 1 / 3]) ** 0.25
    assert np.isclose(bleu, expected, rtol=1e-12).any()


def test_short_stories_score_zero():
    """There is no smoothing: without a 4-gram there is no match."""
    assert self_bleu(["a b c", "a b c", "", "a b c"]) == 0.0


def test_self_bleu_is_seeded():
    """The same seed, the same number; another seed, other candidates."""
    stories = random_stories(300, 12, vocabulary_size=4)
    assert self_bleu(stories, seed=3) == self_bleu(stories, seed=3)
    assert self_bleu(stories, seed=3) != self_bleu(stories, seed=4)
    assert len(candidate_bleus(stories)) == 200


def test_metrics_do_not_depend_on_the_order_of_stories():
    """A permutation changes nothing; Self-BLEU is exhaustive up to 51 stories."""
    stories = random_stories(40, 12, vocabulary_size=6, power=1.0)
    table, reverse = diversity(stories), diversity(stories[::-1])
    for name, estimate in table.items():
        np.testing.assert_allclose(reverse[name].value, estimate.value, err_msg=name)


def test_table_agrees_with_the_functions():
    """The table's fast path and the plain definitions are one measure."""
    stories = random_stories(60, 12, vocabulary_size=20, power=1.0) + ["", "A a"]
    table = diversity(stories, num_resamples=50)
    functions = (self_bleu, vocabulary, unique_first_words, unique_openings)
    expected = {function.__name__: function(stories) for function in functions}
    expected |= {f"distinct_{n}": distinct_n(stories, n) for n in range(1, 5)}
    expected["words_per_document"] = words_per_document(stories)
    assert table.keys() == expected.keys()
    for name, (value, low, high) in table.items():
        np.testing.assert_allclose(value, expected[name], err_msg=name)
        assert low <= value <= high, name


def test_intervals_cover_what_other_samples_give():
    """Of 100 samples of one source, 95% have the mean of all in their interval."""
    tables = [
        diversity(
            random_stories(50, 12, vocabulary_size=300, power=1.0, seed=seed),
            num_resamples=2,
        )
        for seed in range(100)
    ]
    for name in ("distinct_1", "distinct_2", "vocabulary", "unique_first_words"):
        value, low, high = np.array([table[name] for table in tables]).T
        found = np.mean((low <= value.mean()) & (value.mean() <= high))
        assert 0.90 <= found <= 0.995, name
        width = np.mean(high - low) / (2 * 1.96 * value.std())
        assert 0.85 <= width <= 1.6, name


def test_hashes_tell_ngrams_apart():
    """As many distinct hashes as distinct tuples, each in its story."""
    stories = random_stories(50, 40, vocabulary_size=8)
    for n in (1, 3, 5):
        tuples = [
            (i, tuple(story.split()[j : j + n]))
            for i, story in enumerate(stories)
            for j in range(40 - n + 1)
        ]
        hashes, story = ngram_hashes(stories, n)
        assert list(story) == [i for i, _ in tuples]
        code = {}
        for (_, gram), value in zip(tuples, hashes, strict=True):
            assert code.setdefault(gram, value) == value
        assert len(set(code.values())) == len(code)


def test_one_story_has_values_without_intervals():
    """And no Self-BLEU, as it has no other to be compared with."""
    table = diversity(["once upon a time a"])
    assert table["distinct_1"].value == 0.8 and np.isnan(table["distinct_1"].low)
    assert "self_bleu" not in table
    with pytest.raises(ValueError, match="0 documents"):
        diversity([])


def test_human_stories_have_the_known_variety(tinystories_dir):
    """1,000 held-out stories: 64.6% begin with "Once"; 4.27 +- 0.39% distinct first
    words and 26.0 +- 1.1% distinct five-word openings (three standard deviations)."""
    text = (tinystories_dir / "valid.txt").read_text(encoding="utf-8")
    stories = [part for part in text.split("<|endoftext|>") if part.strip()]
    start = time.perf_counter()
    table = diversity(stories)
    assert time.perf_counter() - start < 20.0
    assert len(stories) == 1_000
    assert abs(table["unique_first_words"].value - 0.0427) < 0.0117
    assert abs(table["unique_openings"].value - 0.260) < 0.033
    once = np.mean([opening(story, 1) == "once" for story in stories])
    assert 0.60 < once < 0.70


def test_report_puts_samples_beside_the_reference(tmp_path):
    """Both columns are cut to equally many stories, and every metric has a line."""
    samples, human = tmp_path / "samples.jsonl", tmp_path / "valid.txt"
    stories = random_stories(8, 12, vocabulary_size=5)
    samples.write_text("".join(json.dumps({"text": text}) + "\n" for text in stories))
    human.write_text("<|endoftext|>\n".join(f"{text}\n" for text in stories * 2))
    report = run(str(samples), str(human), str(human))
    assert report.startswith("8 texts")
    for name in ("distinct_4", "self_bleu", "opening_distance", "known_word_share"):
        assert name in report
    samples.write_text('{"text": "a"}\n{"story": "b"}\n')
    with pytest.raises(ValueError, match=r"samples.jsonl:2"):
        run(str(samples), "", "")


def test_stories_are_read_as_those_of_training_are(tmp_path):
    """`<|endoftext|>` or, without it, blank lines; packed or not; with a byte order
    mark and line ends of Windows. A list of files is one text."""
    stories = ["Once a cat sat.", "Two\nlines here.", "The end."]
    blank, marked = "\n\n".join(stories), "\n<|endoftext|>\n".join(stories)
    contents = {
        "blank.txt": blank.encode(),
        "marked.txt": marked.encode(),
        "windows.txt": b"\xef\xbb\xbf" + blank.replace("\n", "\r\n").encode(),
        "packed.txt.gz": gzip.compress(blank.encode()),
        "packed.txt.xz": lzma.compress(marked.encode()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert read_stories(tmp_path / name) == stories
    samples = str(tmp_path / "blank.txt")
    files = ",".join(str(tmp_path / name) for name in contents)
    assert run(samples, files, files).startswith("3 texts in each column")


def test_a_file_of_one_story_has_no_variety(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("Once a cat sat.\nIt was fat.\n")
    with pytest.raises(ValueError, match="holds 1 texts; give a file with at least 2"):
        read_stories(path)
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match="holds no document"):
        read_stories(path)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("从前有一只猫。", ["从", "前", "有", "一", "只", "猫", "。"]),
        ("トムは cat を", ["ト", "ム", "は", "cat", "を"]),
        ("แมวดี", ["แ", "ม", "ว", "ดี"]),  # a vowel sign stays with its letter
        ("ແມວ ខ្មែរ", ["ແ", "ມ", "ວ", "ខ្", "មែ", "រ"]),
        ("Привет, мир! مرحبا بالعالم", ["привет,", "мир!", "مرحبا", "بالعالم"]),
        ("한국어 이야기", ["한국어", "이야기"]),  # Korean has spaces
    ],
)
def test_words_of_scripts_without_spaces_are_characters(text, expected):
    """Each with its marks; all other scripts are cut at white space."""
    assert words(text) == expected
    assert "".join(words(text)) == "".join(text.lower().split())
    assert opening(text, 2) == " ".join(expected[:2])


def test_measures_of_words_see_characters():
    """Two Chinese texts of one beginning share openings and n-grams."""
    stories = ["从前有一只小猫", "从前有一只小狗"]
    table = diversity(stories)
    assert table["vocabulary"].value == 8 and table["words_per_document"].value == 7
    assert table["unique_openings"].value == 0.5
