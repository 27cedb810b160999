"""Prints every text metric of samples, beside those of human stories.

python -m experiments.compare.diversity samples.jsonl --reference=valid.txt

A .jsonl file has one object a line with the key "text"; any other file is text, also
.gz or .xz, whose stories `<|endoftext|>` or blank lines separate. Counts of distinct
things grow with the number of stories, so both columns are made of equally many, the
first ones of the larger file; the rows under "equal words" are of equally many words as
well. --training adds what of the stories stands in the training text, and how long the
longest copied runs are. --storyworld asks the grammar; --mauve needs an extra package.
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
    """The stories of a .jsonl or text file, so many at least.

    Raises:
      ValueError: names the file, and the line where there is one to blame.
    """
    if path.suffix == ".jsonl":
        lines = enumerate(_lines(path), start=1)
        stories = [_text_of(line, f"{path}:{i}") for i, line in lines if line.strip()]
    else:
        stories = list(text_files.documents(path))
    require(
        len(stories) >= minimum,
        f"{path} holds {len(stories)} stories; give at least {minimum}",
    )
    return stories


def metrics(
    stories: Sequence[str],
    reference: Sequence[str] | None,
    training: Reference | None,
    num_words: int | None = None,
    with_grammar: bool = False,
) -> dict[str, Table]:
    """All metrics by heading and name; those that lack their yardstick are absent.

    Args:
      stories: what is measured.
      reference: whose openings are theirs to reproduce.
      training: what they may have copied.
      num_words: how many words of them count where length matters; default: all.
      with_grammar: whether storyworld's grammar has a say.
    """
    limit = variety.num_words(stories) if num_words is None else num_words
    found = {
        "Variety, by stories": diversity(stories),
        "Variety, at equal words": variety.variety(variety.first_words(stories, limit)),
        "Openings": openings(stories, reference),
    }
    for n, row in openings_by_length(stories, reference).items():
        found[f"Openings of {n} word{'s' * (n != '1')}"] = row
    log_prob = storyworld.log_prob if with_grammar else None
    found["Fluency and copying"] = fluency(stories, training, log_prob)
    if with_grammar:
        nats = source_nats(np.array([storyworld.log_prob(story) for story in stories]))
        errors = error_shares(stories, agreement_errors, KINDS)
        found["Stories with an error, by kind"] = errors
        if nats is not None:
            found["Accepted stories"] = {"source_nats_per_story": nats}
    return {heading: rows for heading, rows in found.items() if rows}


def table(columns: dict[str, dict[str, Table]]) -> str:
    """One line a metric: value and 95% interval in each column, a dash where absent."""
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
    """The report on a file of samples; an empty path is no file.

    `score` is of the samples against the reference; it is printed as MAUVE. The other
    two may name several files, separated by commas.

    Raises:
      ValueError: names the file that cannot be read, or the one that is missing.
    """
    path = Path(samples)
    columns = {path.name: read_stories(path)}
    human = _read_all(reference, "--reference")
    require(score is None or human is not None, "MAUVE needs human text: --reference")
    if human is not None:
        columns["reference"] = human
    num_stories = min(len(stories) for stories in columns.values())
    columns = {title: stories[:num_stories] for title, stories in columns.items()}
    num_words = min(map(variety.num_words, columns.values()))
    seen = None
    if (stories := _read_all(training, "--training")) is not None:
        seen = Reference.of(stories)
    rows = {
        title: metrics(
            stories,
            None if title == "reference" else human,
            seen,
            num_words,
            with_grammar,
        )
        for title, stories in columns.items()
    }
    about = f"{num_stories} stories a column, {num_words:,} words where they are equal"
    report = [f"{about}; 95% intervals", "", table(rows)]
    if score is not None and human is not None:
        value = score(columns[path.name], columns["reference"])
        report += ["", f"MAUVE against the reference: {value:.4f}"]
    for title, stories in columns.items():
        report += ["", f"Commonest five-word openings, {title}"]
        report += [f"{share:8.1%}  {text}" for text, share in opening_shares(stories)]
    return "\n".join(report)


def _read_all(files: str, option: str) -> list[str] | None:
    """The stories of the files that an option names; None where it names none."""
    paths = text_files.paths(files, option)
    read = partial(read_stories, minimum=1)
    return [story for path in paths for story in read(path)] if paths else None


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
    """The keys of all, each once, in the order in which they first come."""
    return list(dict.fromkeys(key for part in parts for key in part))


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or np.isnan(estimate.value):
        return "–"
    value, low, high = (f"{x:.4f}" if x < 10 else f"{x:,.1f}" for x in estimate)
    return value if np.isnan(estimate.low) else f"{value} [{low}, {high}]"


def main(samples: str) -> None:
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
        "reference", "", "Human stories, for a second column; default: none."
    )
    flags.DEFINE_string(
        "training", "", "Stories that the model was trained on; default: none."
    )
    flags.DEFINE_bool("storyworld", False, "Ask the grammar of storyworld.")
    flags.DEFINE_bool(
        "mauve", False, "Compute MAUVE against the reference; needs the extra mauve."
    )
    command_line.run(main, positional="SAMPLES")
