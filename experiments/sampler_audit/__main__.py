"""Audits the samplers: their error with exact conditionals in the place of a network.

python -m experiments.sampler_audit --out=runs/audit

It takes about an hour on two cores. Two sources have exact conditionals under every
pattern of masks: a Markov chain (short memory) and a hidden Markov model (long memory).
The same samplers are then run with a network that is trained on the source.
Writes audit.json, audit.md and audit.svg. A second call measures what is missing.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
from absl import flags

from experiments.cached_json import cached_json
from experiments.provenance import command_of, made_by
from experiments.report.style import render
from experiments.report.table import to_markdown
from experiments.sampler_audit import report
from experiments.sampler_audit.audit import audit, settings
from experiments.sampler_audit.network import train
from experiments.sampler_audit.sources import (
    Source,
    estimate_entropy,
    random_chain,
    random_hidden_markov,
)
from lm_jax import command_line, files, progress
from lm_jax.config import Config, require
from lm_jax.language_model import LanguageModel
from lm_jax.types import Params

SOURCES = {
    "chain": random_chain,
    "hidden_markov": lambda key, size: random_hidden_markov(key, size // 2, size),
}
NUM_FOR_ENTROPY = 20_000


def measured(
    network: Callable[[], tuple[LanguageModel, Params]] | None,
    source: Source,
    *args: Any,
) -> dict[str, Any]:
    """A row of the audit for `cached_json`; the network is trained when it is used."""
    return {"row": audit(source, *args, network=network and network())}


def main() -> None:
    """Runs the command."""
    values, out = flags.FLAGS, command_line.path("out")
    length, num, orders = values.length, values.num_windows, values.num_orders
    for name, least in (("length", 8), ("num_windows", 2), ("network_steps", 0)):
        value = int(values[name].value or 0)
        require(value >= least, f"--{name}={value} must be at least {least}")
    require(
        orders >= 4 and orders % 2 == 0,
        f"--num_orders={orders} must be even and at least 4",
    )
    require(values.num_symbols >= 4, f"--num_symbols={values.num_symbols} is below 4")
    known = {sampler for sampler, _ in settings(length)}
    unknown = set(values.network_samplers) - known
    require(
        not unknown,
        f"--network_samplers={','.join(sorted(unknown))} is not audited: choose from "
        f"{', '.join(sorted(known))}",
    )
    key = jax.random.key(values.seed)
    of_source, of_windows, of_rows = jax.random.split(key, 3)
    of_network = jax.random.fold_in(key, 3)
    common = {"length": length, "num_windows": num, "num_orders": orders}
    audits = {}
    for name, make in SOURCES.items():
        source = make(of_source, values.num_symbols)
        network = cache(
            partial(train, source, length, values.network_steps, of_network)
        )
        x = source.sample(of_windows, num, length)
        entropy, _ = estimate_entropy(source, of_windows, NUM_FOR_ENTROPY, length)
        rows = []
        todo = list(settings(length))
        for i, (sampler, cfg) in enumerate(progress.over(todo, name, "settings")):
            has_network = bool(values.network_steps) and (
                not values.network_samplers or sampler in values.network_samplers
            )
            wanted = {
                **common,
                "seed": values.seed,
                "network_steps": has_network * values.network_steps,
                "num_symbols": values.num_symbols,
                "sampler": sampler,
                "num_steps": cfg.num_steps,
                "entropy_bound": cfg.entropy_bound,
                "threshold": cfg.threshold,
            }
            key = jax.random.fold_in(of_rows, i)

            measure = partial(
                measured,
                network if has_network else None,
                source,
                *(x, sampler, cfg, key, orders),
            )
            file = out / "rows" / f"{name}_{i}.json"
            rows.append(cached_json(file, wanted, measure)["row"])
        audits[name] = {**common, "entropy": float(entropy), "rows": rows}
    about = made_by(command_of("sampler_audit"), Config())
    del about["config"]
    files.write_json(out / "audit.json", {**about, "sources": audits})
    tables = [to_markdown(report.table(name, found)) for name, found in audits.items()]
    for file, content in (
        ("audit.md", "\n\n".join(tables).encode() + b"\n"),
        ("audit.svg", render(report.figure(audits), "svg")),
    ):
        with files.whole_file(out / file) as part:
            part.write_bytes(content)
        print(out / file)


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Directory of the results.")
    flags.DEFINE_integer("length", 64, "Tokens per window.")
    flags.DEFINE_integer("num_symbols", 16, "Symbols of the sources.")
    flags.DEFINE_integer("num_windows", 256, "Windows, and samples of each setting.")
    flags.DEFINE_integer("num_orders", 16, "Draws per window for a random order.")
    flags.DEFINE_integer("network_steps", 3000, "Training steps; 0: no network.")
    flags.DEFINE_list("network_samplers", [], "Samplers to run with it; default: all.")
    flags.DEFINE_integer("seed", 0, "Seed of sources, windows and samples.")
    command_line.run(main, required={"out": "DIR"})
