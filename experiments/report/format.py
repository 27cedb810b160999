"""Formats of printed numbers: values, intervals, bounds, and labels of metrics."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from lm_jax.evaluation import intervals
from lm_jax.evaluation.intervals import Estimate

MISSING = "–"
Number = int | float  # a number in JSON


class Metric(NamedTuple):
    """Label and number format of a metric of results.json."""

    label: str
    format: str = ".3f"


DIVERSITY = {
    "distinct_1": Metric("Distinct-1"),
    "distinct_2": Metric("Distinct-2"),
    "distinct_3": Metric("Distinct-3"),
    "distinct_4": Metric("Distinct-4"),
    "self_bleu": Metric("Self-BLEU"),
    "vocabulary": Metric("Vocabulary (words)", ",.0f"),
    "unique_first_words": Metric("Distinct first words / texts"),
    "unique_openings": Metric("Distinct five-word openings / texts"),
    "words_per_document": Metric("Words per text", ".1f"),
}
OPENINGS = {
    "share_of_commonest_first_word": Metric("Share of the most frequent first word"),
    "share_of_commonest_opening": Metric(
        "Share of the most frequent five-word opening"
    ),
    "first_word_entropy": Metric("Entropy of first words (nats)"),
    "opening_entropy": Metric("Entropy of five-word openings (nats)"),
    "opening_distance": Metric("Distance of first words from the corpus (0 to 1)"),
}
VARIETY = {
    "distinct_1": Metric("Distinct-1"),
    "distinct_2": Metric("Distinct-2"),
    "distinct_3": Metric("Distinct-3"),
    "distinct_4": Metric("Distinct-4"),
    "vocabulary": Metric("Vocabulary (words)", ",.0f"),
    "word_entropy": Metric("Entropy of words (nats)"),
    "bigram_entropy": Metric("Entropy of 2-grams (nats)"),
    "fourgram_entropy": Metric("Entropy of 4-grams (nats)"),
    "smoothed_self_bleu": Metric("Self-BLEU (sacrebleu's BLEU)"),
    "repetition_4": Metric("4-grams repeated within a text"),
    "compression_ratio": Metric("Compression ratio"),
}
FLUENCY = {
    "accepted_share": Metric("Stories that the grammar accepts"),
    "known_word_share": Metric("Words that occur in the training text"),
    "seen_4gram_share": Metric("4-grams that occur in the training text"),
    "judge_bits_per_byte": Metric("Bits per byte under the judge"),
    "judge_perplexity": Metric("Perplexity per token of the judge", ".1f"),
    "judge_token_entropy": Metric("Entropy of a text's tokens (nats)"),
    "finished_share": Metric("Finished samples (end with EOS)"),
}


COPYING = {
    "copied_8gram_share": Metric("8-grams copied from the training text"),
    "longest_copied_run": Metric("Longest copied run (words)", ".1f"),
    "longest_copied_share": Metric("Longest copied run / words of the text"),
}


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float] | None:
    """b - a with its 95% interval, or None; see `intervals.difference`."""
    ends = [row.get(name) for row in (a, b) for name in ("value", "low", "high")]
    if not all(map(is_number, ends)):
        return None
    one, other = (Estimate(row["value"], row["low"], row["high"]) for row in (a, b))
    return intervals.difference(other, one)._asdict()


def excludes_zero(estimate: Mapping[str, Any] | None) -> bool:
    """Whether a difference is resolved: 0 is outside its interval."""
    if not estimate or not all(is_number(estimate[end]) for end in ("low", "high")):
        return False
    return estimate["low"] > 0.0 or estimate["high"] < 0.0


def number(value: Number | None, spec: str = ".3f") -> str:
    """The number in this format, or an en dash for None."""
    return format(value, spec) if is_number(value) else MISSING


def estimate(value: Mapping[str, Any] | None, spec: str = ".3f") -> str:
    """`0.341 [0.330, 0.352]`, or an en dash for None."""
    if not value or not is_number(value.get("value")):
        return MISSING
    if not is_number(value.get("low")) or not is_number(value.get("high")):
        return number(value["value"], spec)
    low, high = number(value["low"], spec), number(value["high"], spec)
    return f"{number(value['value'], spec)} [{low}, {high}]"


def bound(
    score: Mapping[str, Any], value: Number | None, scale: Number | None = 1.0
) -> str:
    """`≤ 1.234 ± 0.004 (16 draws)` for a bound, `1.234` for an exact value.

    Args:
      score: dictionary with is_bound, standard_error and num_draws.
      value: number to print.
      scale: factor from the unit of the standard error to the unit of the value.
    """
    if not is_number(value):
        return MISSING
    if not score.get("is_bound"):
        return number(value)
    error, draws = score.get("standard_error"), score.get("num_draws")
    text = f"≤ {number(value)}"
    if is_number(error) and is_number(scale):
        text += f" ± {number(error * scale)}"
    return f"{text} ({draws} draws)" if draws else text


def plain(value: Any) -> str:
    """A setting as readable text."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return MISSING if value is None or value == "" else str(value)


def ratio(value: Number | None, reference: Number | None) -> str:
    """value / reference as text."""
    if not is_number(value) or not is_number(reference) or not reference:
        return MISSING
    return f"{value / reference:.3f}"


def is_number(value: Any) -> TypeGuard[Number]:
    """Whether this is a finite number."""
    return isinstance(value, Number) and math.isfinite(value)
