"""Prints all text metrics of samples beside those of human text.

python -m experiments.compare.diversity samples.jsonl --reference=valid.txt

A .jsonl file has one JSON object per line with the key "text". Any other file is plain
text, also as .gz or .xz; `<|endoftext|>` or blank lines separate its documents. Counts
of distinct items grow with the number of texts. Both columns therefore use the same
number of texts: the first ones of the larger file. The rows under "equal words" also
use the same number of words. --training adds the overlap with the training text and the
longest copied runs. --storyworld adds metrics of the grammar; --mauve needs the extra
mauve.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from lm_jax import command_line
from lm_jax.config import require
from lm_jax.data import storyworld, text_files
from lm_jax.data.storyworld.agreement import KINDS, agreement_errors
from lm_jax.evaluation import variety
from lm_jax.evaluation.diversity import diversity
from lm_jax.evaluation.fluency import Reference, fluency
from lm_jax.evaluation.grammar import error_shares, source_nats
from lm_jax.evaluation.intervals import Estimate
from lm_jax.evaluation.mauve_score import mauve
from lm_jax.evaluation.openings import opening_shares, openings, openings_by_length

Table = dict[str, Estimate]


def read_stories(path: Path, minimum: int = 2) -> list[str]:
    """The texts of a .jsonl or text file, at least `minimum` of them.

    Raises:
      ValueError: names the file and, for a bad line of a .jsonl file, the line.
    """
    if path.suffix == ".jsonl":
        lines = enumerate(_lines(path), start=1)
        texts = [_text_of(line, f"{path}:{i}") for i, line in lines if line.strip()]
    else:
        texts = list(text_files.documents(path))
    require(
        len(texts) >= minimum,
        f"{path} holds {len(texts)} texts; give a file with at least {minimum}",
    )
    return texts


def metrics(
    texts: Sequence[str],
    reference: Sequence[str] | None,
    training: Reference | None,
    num_words: int | None = None,
    with_grammar: bool = False,
) -> dict[str, Table]:
    """All metrics by heading and name; without its reference a metric is left out.

    Args:
      texts: texts to measure.
      reference: texts whose distribution of openings is the target.
      training: training text, in which copies are searched.
      num_words: number of words used by metrics that depend on length; default: all.
      with_grammar: whether to add metrics of storyworld's grammar.
    """
    limit = variety.num_words(texts) if num_words is None else num_words
    found = {
        "Variety, by texts": diversity(texts),
        "Variety, at equal words": variety.variety(variety.first_words(texts, limit)),
        "Openings": openings(texts, reference),
    }
    for n, row in openings_by_length(texts, reference).items():
        found[f"Openings of {n} word{'s' * (n != '1')}"] = row
    log_prob = storyworld.log_prob if with_grammar else None
    found["Fluency and copying"] = fluency(texts, training, log_prob)
    if with_grammar:
        nats = source_nats(np.array([storyworld.log_prob(text) for text in texts]))
        errors = error_shares(texts, agreement_errors, KINDS)
        found["Stories with an error, by kind"] = errors
        if nats is not None:
            found["Accepted stories"] = {"source_nats_per_story": nats}
    return {heading: rows for heading, rows in found.items() if rows}


def table(columns: dict[str, dict[str, Table]]) -> str:
    """One line per metric: value and 95% interval in each column, or a dash."""
    lines = [f"{'':30}" + "".join(f"{title:>30}" for title in columns)]
    for heading in _union(columns.values()):
        parts = [column.get(heading, {}) for column in columns.values()]
        lines += ["", heading]
        for name in _union(parts):
            cells = [_cell(part.get(name)) for part in parts]
            lines.append(f"{name:30}" + "".join(f"{cell:>30}" for cell in cells))
    return "\n".join(lines)


def run(
    samples: str,
    reference: str,
    training: str,
    *,
    with_grammar: bool = False,
    score: Callable[[Sequence[str], Sequence[str]], float] | None = None,
) -> str:
    """The report on a file of samples, as text.

    Args:
      samples: path of the samples.
      reference: paths of human text, separated by commas; "" for none.
      training: paths of the training text, separated by commas; "" for none.
      with_grammar: whether to add metrics of storyworld's grammar.
      score: (samples, reference) -> MAUVE.

    Raises:
      ValueError: names the file that cannot be read, or the one that is missing.
    """
    path = Path(samples)
    columns = {path.name: read_stories(path)}
    human = _read_all(reference, "--reference")
    require(score is None or human is not None, "MAUVE needs human text: --reference")
    if human is not None:
        columns["reference"] = human
    num_texts = min(map(len, columns.values()))
    columns = {title: texts[:num_texts] for title, texts in columns.items()}
    num_words = min(map(variety.num_words, columns.values()))
    seen = None
    if (texts := _read_all(training, "--training")) is not None:
        seen = Reference.of(texts)
    rows = {
        title: metrics(
            texts,
            None if title == "reference" else human,
            seen,
            num_words,
            with_grammar,
        )
        for title, texts in columns.items()
    }
    about = f"{num_texts} texts in each column, {num_words:,} words at equal words"
    report = [f"{about}; 95% intervals", "", table(rows)]
    if score is not None and human is not None:
        value = score(columns[path.name], columns["reference"])
        report += ["", f"MAUVE against the reference: {value:.4f}"]
    for title, texts in columns.items():
        report += ["", f"Most frequent five-word openings, {title}"]
        report += [f"{share:8.1%}  {text}" for text, share in opening_shares(texts)]
    return "\n".join(report)


def _read_all(files: str, option: str) -> list[str] | None:
    """The texts of the files that an option names; None if it names no file."""
    paths = text_files.paths(files, option)
    read = partial(read_stories, minimum=1)
    return [text for path in paths for text in read(path)] if paths else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def _text_of(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError):
        text = None
    require(
        isinstance(text, str), f'{where} is not an object with a string under "text"'
    )
    return str(text)


def _union(parts) -> list[str]:
    """The keys of all parts without repetition, in order of first occurrence."""
    return list(dict.fromkeys(key for part in parts for key in part))


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or np.isnan(estimate.value):
        return "–"
    value, low, high = (f"{x:.4f}" if x < 10 else f"{x:,.1f}" for x in estimate)
    return value if np.isnan(estimate.low) else f"{value} [{low}, {high}]"


def main(samples: str) -> None:
    """Runs the command."""
    values = flags.FLAGS
    report = run(
        samples,
        values.reference,
        values.training,
        with_grammar=values.storyworld,
        score=mauve if values.mauve else None,
    )
    print(report)


if __name__ == "__main__":
    flags.DEFINE_string(
        "reference", "", "Human text for a second column; default: none."
    )
    flags.DEFINE_string(
        "training", "", "Text that the model was trained on; default: none."
    )
    flags.DEFINE_bool("storyworld", False, "Add metrics of storyworld's grammar.")
    flags.DEFINE_bool(
        "mauve", False, "Compute MAUVE against the reference; needs the extra mauve."
    )
    command_line.run(main, positional="SAMPLES")
