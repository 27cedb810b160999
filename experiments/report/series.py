"""Where text comes from, with one colour, one mark and one label for each source."""

from typing import Any, NamedTuple

from experiments.report.format import Number

Results = dict[str, Any]  # results.json; the only source of numbers in a report

# Okabe and Ito 2008, jfly.uni-koeln.de/color: told apart by colour-blind readers.
_LOOKS = {"ar": ("#0072B2", "o"), "mdlm": ("#D55E00", "s"), "human": ("#009E73", "D")}
_SPARE_LOOKS = [("#CC79A7", "^"), ("#56B4E9", "v"), ("#E69F00", "P")]

# Each colour, and the same hue for a dark page.
PALETTE = {
    "#0072B2": "#56A8E0",
    "#D55E00": "#F08A4B",
    "#009E73": "#35BF95",
    "#CC79A7": "#DE9CC1",
    "#56B4E9": "#7CC8F2",
    "#E69F00": "#F0B43C",
}


class Source(NamedTuple):
    """Where text comes from: a family of models, or the corpus.

    Attributes:
      name: the key in results.json, "human" for held-out text.
      label: for readers.
      color, marker: the same wherever this source is shown.
      numbers: what results.json holds of it.
      line: solid, but where several runs lie in one figure.
    """

    name: str
    label: str
    color: str
    marker: str
    numbers: dict[str, Any]
    line: Any = "-"

    @property
    def is_bound(self) -> bool:
        """Whether the numbers of its likelihood bound the truth from above."""
        return bool(self.numbers.get("is_bound"))


def families(results: Results) -> list[Source]:
    """The families in the order of results.json; the first one is compared against."""
    found = []
    spare = iter(_SPARE_LOOKS * len(results["families"]))
    looks: dict[str, tuple[str, str]] = dict(_LOOKS)
    for name, numbers in results["families"].items():
        family = numbers.get("family", name)  # of several runs, one name each
        if family not in looks:
            looks[family] = next(spare)
        label = str(numbers.get("label", name))
        line = numbers.get("line", "-")
        found.append(Source(name, label, *looks[family], numbers, line))
    return found


def held_out(results: Results) -> Source:
    """The human row: held-out text of the corpus, whoever wrote it."""
    numbers = results.get("human") or {}
    return Source("human", "Held-out text", *_LOOKS["human"], numbers)


def sources(results: Results) -> list[Source]:
    """The families, then held-out text."""
    return [*families(results), held_out(results)]


def source_entropy(results: Results) -> Number | None:
    """-log p(validation text) under its true source, in nats per token, if known."""
    entropy = results.get("corpus", {}).get("entropy") or {}
    return entropy.get("nats_per_token")
