"""The short table of a run, as README shows it, made from its results.json.

python -m experiments.readme_table experiments/results/tinystories_cpu
"""

from typing import Any

from experiments.report import read_results
from lm_jax import command_line

# Label, group and metric of a row; every column has it, the human one too.
ROWS = (
    ("commonest first word", "openings", "share_of_commonest_first_word"),
    ("commonest five-word opening", "openings", "share_of_commonest_opening"),
    ("distance of first words from the corpus", "openings", "opening_distance"),
    ("distinct five-word openings / stories", "diversity", "unique_openings"),
    ("Self-BLEU", "diversity", "self_bleu"),
    ("words that occur in training text", "fluency", "known_word_share"),
    ("4-grams that occur in training text", "fluency", "seen_4gram_share"),
    ("8-grams copied from training text", "fluency", "copied_8gram_share"),
)


def table(results: dict[str, Any]) -> str:
    """Markdown: likelihood, openings, variety, fluency; 95% intervals in brackets."""
    families = list(results["families"].values())
    titles = [part["label"] for part in families]
    columns = [*families, results["human"]]
    lines = [
        f"| | {' | '.join([*titles, 'held-out text'])} |",
        "|---|" + "---:|" * len(columns),
    ]
    for label, name in (
        ("nats per token", "nats_per_token"),
        ("bits per byte", "bits_per_byte"),
    ):
        cells = [_likelihood(part["likelihood"], name) for part in families]
        lines.append(f"| {label} | {' | '.join(cells)} | |")
    for label, group, name in ROWS:
        cells = [_estimate(column[group][name]) for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _likelihood(scores: dict[str, Any], name: str) -> str:
    if not scores["is_bound"]:
        return f"{scores[name]:.3f}"
    error = scores["standard_error"] * scores[name] / scores["nats_per_token"]
    return f"≤ {scores[name]:.3f} ± {error:.3f} ({scores['num_draws']} draws)"


def _estimate(row: dict[str, float]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main(directory: str) -> None:
    print(table(read_results(directory)))


if __name__ == "__main__":
    command_line.run(main, positional="DIR")
