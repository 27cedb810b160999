"""The main tables of a report, as plain rows of text for Markdown and HTML."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from experiments.report import detail_tables, published
from experiments.report.comparisons import verdicts
from experiments.report.format import (
    COPYING,
    DIVERSITY,
    FLUENCY,
    OPENINGS,
    VARIETY,
    Metric,
    bound,
    estimate,
    number,
    plain,
    ratio,
)
from experiments.report.sampler_likelihood import sampler_nats, scored_samplers
from experiments.report.series import (
    Results,
    Source,
    families,
    source_entropy,
    sources,
)
from experiments.report.table import Table

INTERVALS = (
    "Brackets hold 95% intervals over texts, for one trained model of each family. "
    "Held-out text is the target, and the same code measures it. It is human text if "
    "the corpus is."
)

SPACELESS = "In scripts without spaces between words, each character counts as a word."


def _training(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda numbers: (numbers.get("training") or {}).get(name)


COSTS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], str]] = {
    "Parameters": (lambda f: f.get("num_params"), ",.0f"),
    "of these in the time embedding": (
        lambda f: f.get("num_time_embedding_params"),
        ",.0f",
    ),
    "FLOPs per token": (lambda f: f.get("flops_per_token"), ",.0f"),
    "Steps": (_training("num_steps"), ",.0f"),
    "Tokens": (_training("num_tokens"), ",.0f"),
    "Tokens per second": (_training("tokens_per_second"), ",.0f"),
    "Training time (s)": (_training("seconds"), ",.1f"),
    "Evaluation time (s)": (_training("seconds_evaluating"), ",.1f"),
    "Checkpoint saving time (s)": (_training("seconds_saving"), ",.1f"),
}


def all_tables(results: Results) -> dict[str, Table]:
    """All tables of a report by name, in the order of the report."""
    tables = [
        likelihood(results),
        published_loss(),
        training(results),
        published_training(),
        metrics(results, "openings", OPENINGS, "Openings"),
        metrics(results, "diversity", DIVERSITY, "Variety"),
        published_diversity(),
        metrics(results, "variety", VARIETY, "Variety of the same number of words"),
        metrics(results, "fluency", FLUENCY | COPYING, "Fluency and copying"),
        sampling(results),
        samplers(results),
        curve(results),
        verdicts(results),
        *detail_tables.all_details(results),
    ]
    return {table.name: table for table in tables}


def likelihood(results: Results) -> Table:
    """Nats per token and bits per byte on the validation windows."""
    source_nats = source_entropy(results)
    header = ("", "Nats per token", "Bits per byte", "Above the source (nats)")
    rows = []
    if source_nats is not None:
        bytes_per_token = results["corpus"]["bytes_per_token"]
        bits = source_nats / (math.log(2.0) * bytes_per_token)
        rows.append(("Source (exact)", number(source_nats), number(bits), number(0.0)))
    for family in families(results):
        score = family.numbers.get("likelihood", {})
        nats, bits = score.get("nats_per_token"), score.get("bits_per_byte")
        above = None if None in (nats, source_nats) else nats - source_nats
        scale = bits / nats if nats and bits else None
        kind = "upper bound" if family.is_bound else "exact"
        cells = (bound(score, nats), bound(score, bits, scale), bound(score, above))
        rows.append((f"{family.label} ({kind})", *cells))
        few = _few_windows(family)
        rows += [(*row, number(None)) for row in few]
    if source_nats is None:
        header, rows = header[:-1], [row[:-1] for row in rows]
    note = (
        "All families score the same tokens of the same windows. ± is one standard "
        "error over the draws, for these windows; exact values have none. The gap "
        "between a bound and the true value is not known."
    )
    if any(_few_windows(family) for family in families(results)):
        note += (
            " Rows that name a number of windows are about the first ones; their "
            "brackets are over windows. The likelihood of a sampler is that of what it "
            "writes, and exact if its order depends on visible tokens alone."
        )
    caption = "Negative log-likelihood of the validation text; lower is better"
    return Table("likelihood", caption, header, rows, note)


def _few_windows(family: Source) -> list[tuple[str, str, str]]:
    """Rows of the samplers that were scored, or of an exact family on their windows."""
    rows = []
    for _, name, found in scored_samplers(family):
        bits = number(found["bits_per_byte"])
        label = f"{family.label}, {name}, {found['num_windows']} windows"
        rows.append((label, sampler_nats(found), bits))
    own = (family.numbers.get("exact") or {}).get("nats_per_token")
    if own and not rows:
        count = family.numbers["exact_of"]["num_windows"]
        label = f"{family.label}, {count} windows"
        rows.append((label, estimate(own), number(None)))
    return rows


def training(results: Results) -> Table:
    """Cost of training, with the ratio of each other family to the first."""
    first, *others = families(results)
    rows = []
    for quantity, _ in COSTS.values():
        own, *rest = (quantity(family.numbers) for family in (first, *others))
        rows.append(tuple(ratio(value, own) for value in rest))
    plain_table = costs(results)
    ratios = tuple(f"{family.label} / {first.label}" for family in others)
    return plain_table._replace(
        header=plain_table.header + ratios,
        rows=[row + extra for row, extra in zip(plain_table.rows, rows, strict=True)],
    )


def costs(results: Results) -> Table:
    """Cost of training, one column for each family."""
    columns = families(results)
    rows = [
        (label, *(number(quantity(column.numbers), spec) for column in columns))
        for label, (quantity, spec) in COSTS.items()
    ]
    note = (
        "Training, evaluation and saving are timed separately. One run: no intervals."
    )
    header = ("", *(column.label for column in columns))
    return Table("training", "Cost of training", header, rows, note)


def metrics(
    results: Results, group: str, known: Mapping[str, Metric], caption: str
) -> Table:
    """One group of text metrics: a row for each, a column for each source."""
    columns = sources(results)
    names = [name for name in known if any(_has(c, group, name) for c in columns)]
    names += sorted(
        {name for c in columns for name in c.numbers.get(group) or {}} - set(known)
    )
    rows = []
    for name in names:
        metric = known.get(name, Metric(name))
        values = [(column.numbers.get(group) or {}).get(name) for column in columns]
        rows.append((metric.label, *(estimate(v, metric.format) for v in values)))
    header = ("", *(column.label for column in columns))
    note = INTERVALS
    if (results.get("corpus") or {}).get("is_spaceless"):
        note += " " + SPACELESS
    if not results.get("human"):
        note += " There is too little held-out text for a column of its own."
    num_words = {column.numbers.get("num_words") for column in columns}
    if group == "variety" and not rows or num_words == {0}:
        note += " One source has no words, so there is nothing to compare."
    return Table(group, caption, header, rows, note)


def sampling(results: Results) -> Table:
    """Cost of sampling."""
    columns = families(results)
    quantities = {
        "Samples": ("num_samples", ",.0f"),
        "Tokens": ("num_tokens", ",.0f"),
        "Tokens per second": ("tokens_per_second", ",.0f"),
        "Seconds": ("seconds", ",.1f"),
        "Network calls, each for a whole batch": ("nfe", ",.0f"),
    }
    rows = []
    for label, (name, spec) in quantities.items():
        drawn = [column.numbers.get("sampling", {}).get(name) for column in columns]
        if any(value is not None for value in drawn):
            rows.append((label, *(number(value, spec) for value in drawn)))
    note = (
        "Compilation is not included. Tokens are those of whole windows, including "
        "tokens after the end of a sample. If sampling was interrupted, only the part "
        "after the interruption is timed and counted."
    )
    header = ("", *(column.label for column in columns))
    return Table("sampling", "Cost of sampling", header, rows, note)


def curve(results: Results) -> Table:
    """The points of the learning curves."""
    columns = families(results)
    draws = curve_draws(results)
    points = [{p["step"]: p for p in c.numbers.get("curve") or []} for c in columns]
    rows = []
    for step in sorted({step for column in points for step in column}):
        cells = []
        for family, column in zip(columns, points, strict=True):
            score = {"is_bound": family.is_bound, "num_draws": draws}
            score |= column.get(step, {})
            cells.append(bound(score, score.get("nats_per_token")))
        rows.append((f"{step:,}", *cells))
    header = ("Step", *(family.label for family in columns))
    return Table("curve", "Validation loss in nats per token, by step", header, rows)


def samplers(results: Results) -> Table:
    """The settings of the samplers."""
    columns = families(results)
    drawn = [c.numbers.get("sampling", {}).get("settings") or {} for c in columns]
    names = dict.fromkeys(name for column in drawn for name in column)
    rows = [(name, *(plain(column.get(name)) for column in drawn)) for name in names]
    header = ("", *(column.label for column in columns))
    note = "A sampler without a name is the default of its family."
    caption = "Settings of the samplers"
    return Table("samplers", caption, header, rows, note)


def settings(results: Results) -> list[Table]:
    """Settings of the run: config, machine and versions."""
    groups: dict[str, dict[str, Any]] = {
        "run": {
            "seed": results.get("seed"),
            "commit": results.get("commit"),
        },
        "machine": results.get("machine") or {},
        "versions": results.get("versions") or {},
        "corpus": results.get("corpus") or {},
    }
    for name, value in (results.get("config") or {}).items():
        if isinstance(value, dict):
            groups[f"config.{name}"] = value
    return [
        Table(
            f"settings-{name.replace('.', '-')}",
            name,
            ("Name", "Value"),
            [(key, plain(value)) for key, value in group.items()],
        )
        for name, group in groups.items()
        if group
    ]


def published_loss() -> Table:
    """Table 3 of the paper."""
    losses = zip(published.LOSS_STEPS, *published.LOSS.values(), strict=True)
    rows = [(f"{step:,}", *(number(loss) for loss in row)) for step, *row in losses]
    note = (
        "The paper's MDLM column is an unweighted masked cross-entropy. It is neither "
        "a likelihood nor a bound, so the two columns must not be compared."
    )
    header = ("Step", "AR (nats per token)", "MDLM (masked cross-entropy)")
    return _published("published_loss", "Validation loss", header, rows, note)


def published_training() -> Table:
    """Parameters and speed as given in the paper."""
    ar, mdlm = published.TOKENS_PER_SECOND
    millions = [
        f"{value / 1e6:.1f}\N{NO-BREAK SPACE}M" for value in published.PARAMETERS
    ]
    rows = [
        ("Parameters", *millions, ratio(*reversed(published.PARAMETERS))),
        ("Tokens per second", f"{ar:,}", f"{mdlm:,}", ratio(mdlm, ar)),
    ]
    note = "One H100; the time includes validation and, for MDLM, sampling."
    header = ("", *published.LABELS, "MDLM / AR")
    return _published("published_training", "Cost of training", header, rows, note)


def published_diversity() -> Table:
    """Table 4 of the paper."""
    rows = [
        (DIVERSITY[name].label, *(number(v, DIVERSITY[name].format) for v in values))
        for name, values in published.DIVERSITY.items()
    ]
    note = (
        "1,000 samples of 128 tokens: AR from the prompt “Once”, MDLM without one. "
        "All measures depend on the number and length of samples."
    )
    header = ("", *published.LABELS)
    return _published("published_diversity", "Variety", header, rows, note)


def curve_draws(results: Results) -> int | None:
    """Number of draws for each point of the learning curve of a bound."""
    return results.get("config", {}).get("train", {}).get("eval_draws")


def _published(
    name: str,
    caption: str,
    header: tuple[str, ...],
    rows: list[tuple[str, ...]],
    note: str,
) -> Table:
    caption = f"{caption}: {published.WARNING}"
    return Table(name, caption, header, rows, f"{note} {published.CITATION}.", True)


def _has(source: Source, group: str, name: str) -> bool:
    return name in (source.numbers.get(group) or {})
