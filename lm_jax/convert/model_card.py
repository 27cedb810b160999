"""The model card of an exported run: README.md, made from the run directory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from lm_jax import files
from lm_jax.run import Trained
from lm_jax.training.metrics import read_summary
from lm_jax.types import EOS, MASK, NUM_NON_TEXT

SCORES = "comparison/scores.json"  # of a run in a comparison
METRICS = "metrics.jsonl"

USE_AR = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("{prompt}", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))
```

`tokenizer` puts BOS before a text, and the model needs it. generation_config.json draws
from the model itself (temperature 1, no truncation) and suppresses the ids 0 to
{last_non_text}, which are never text: their logits are arbitrary, so set them to -inf
before a softmax of your own.
"""

USE_MDLM = """\
```python
import torch
from transformers import AutoModel, PreTrainedTokenizerFast

model = AutoModel.from_pretrained(".", trust_remote_code=True)
tokenizer = PreTrainedTokenizerFast.from_pretrained(".")
z = torch.full((4, {length}), {mask})  # four windows, all [MASK]
times = torch.linspace(1, 0, {length} + 1)
with torch.inference_mode():
    for t, s in zip(times[:-1], times[1:]):
        logits = model(z, t.expand(4)).logits
        x = torch.distributions.Categorical(logits=logits).sample()
        share = (model.alpha(s) - model.alpha(t)) / (1 - model.alpha(t))
        z = torch.where((z == {mask}) & (torch.rand(z.shape) < share), x, z)
for row in z.tolist():
    print(tokenizer.decode(row[: [*row, {eos}].index({eos})]))
```

`model(z, t)` reads tokens (B, L) and times (B,) and returns logits (B, L, V) of the
tokens behind the masks; the ids 0 to {last_non_text}, which are never text, have -inf.
`modeling_mdlm.py` is code of this directory, which `trust_remote_code=True` runs: read
it first.
"""

NAMES = {"ar": "autoregressive", "mdlm": "masked diffusion"}
USES = {"ar": USE_AR, "mdlm": USE_MDLM}


def render(model: Trained) -> str:
    """The card, in Markdown."""
    cfg, name = model.run.cfg, model.family.name
    use = USES[name].format(
        length=cfg.model.length,
        mask=MASK,
        eos=EOS,
        last_non_text=NUM_NON_TEXT - 1,
        prompt="Once upon a time",
    )
    tags = f"---\ntags: [{NAMES[name].replace(' ', '-')}, lm_jax]\n---\n\n"
    about = (
        f"Language model of the family `{name}` ({NAMES[name]}), exported by "
        "`python -m lm_jax.convert`.\n"
    )
    rows = "\n".join(f"| {what} | {value} |" for what, value in _facts(model))
    scores = "\n".join(_scores(model)) or "The run directory holds no scores.\n"
    return (
        f"{tags}# {model.run.path.name}\n\n{about}\n| | |\n|---|---|\n{rows}\n\n"
        f"## Scores\n\n{scores}\n## Use\n\n{use}\n## Commands\n\n{_commands(model)}"
    )


def _facts(model: Trained) -> Iterator[tuple[str, str]]:
    cfg = model.run.cfg
    record = files.read_json(model.run.path / "run.json")
    source = record.get("source", {})
    if "format" in source:
        yield "weights", f"imported from {source['format']}"
        for path, digest in source["files"].items():
            yield "file", f"`{Path(path).name}`, sha256 {digest}"
    else:
        data = cfg.data
        text = "".join(f", {file}" for file in data.train_files)
        yield "data", f"{data.corpus}{text}, windows by {data.windows}"
        if source:  # train.init_from
            yield (
                "began with",
                f"the backbone of a run of the family {source['family']}",
            )
        yield "fingerprint of the data", f"`{model.run.fingerprint}`"
        yield "seed", str(cfg.seed)
    sizes = [leaf.size for leaf in jax.tree.leaves(model.params)]
    yield "parameters", f"{sum(sizes):,}"
    yield (
        "architecture",
        f"{cfg.model.num_layers} layers of width {cfg.model.width}, "
        f"{cfg.model.num_heads} heads, feed-forward {cfg.model.ffn_width}, "
        f"{cfg.model.vocab_size:,} ids, windows of {cfg.model.length} tokens, "
        f"{'tied' if cfg.model.tied_head else 'untied'} head",
    )
    yield "checkpoint", f"step {model.step:,}"
    if summary := read_summary(model.run.path):
        yield (
            "training",
            (
                f"{summary['num_steps']:,} steps, {summary['num_tokens']:,} tokens, "
                f"{summary['seconds']:,.0f} s in steps"
            ),
        )
    versions = record.get("versions", {})
    yield "versions", ", ".join(f"{name} {x}" for name, x in versions.items())


def _scores(model: Trained) -> Iterator[str]:
    """Scores of this checkpoint: those of a comparison, and the last validation."""
    sign = "<= " if model.family.is_bound else ""
    path = model.run.path / SCORES
    if files.exists(path):
        found = files.read_json(path).get("found", {}).get("scores", {})
        if found.get("checkpoint") == model.step:
            yield (
                f"Held-out text, {found['num_windows']:,} windows: "
                f"{sign}{found['nats_per_token']:.4f} nats per token "
                f"({found['data_low']:.4f} to {found['data_high']:.4f}, a 95% "
                f"bootstrap interval over windows), {sign}{found['bits_per_byte']:.4f} "
                "bits per byte.\n"
            )
    for line in _validations(model):
        if line["step"] == model.step:
            error = line["standard_error"]
            spread = f" (standard error of its draws {error:.4f})" if error else ""
            count = model.run.cfg.train.eval_windows
            yield (
                f"Validation while training, {count} windows: "
                f"{sign}{line['nats_per_token']:.4f} nats per token{spread}.\n"
            )


def _validations(model: Trained) -> list[dict[str, Any]]:
    path = model.run.path / METRICS
    if not files.exists(path):
        return []
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [line for line in lines if line.get("split") == "validation"]


def _commands(model: Trained) -> str:
    family, workdir = model.family.name, model.run.path
    programs = (f"{family}_jax.sample", f"{family}_jax.evaluate", "lm_jax.convert")
    which = f"--workdir={workdir} --checkpoint={model.step}"
    lines = "\n".join(f"python -m {program} {which}" for program in programs)
    return f"```\n{lines} --out=DIR\n```\n"
