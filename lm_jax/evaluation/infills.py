"""The likelihood of what fills a gap: p(gap | text around it), and multiple choice.

A sampler that fills gaps scores the gap given both sides, exactly or by a bound; see
`sampler_likelihood`. It is a probability over gaps of the same number of tokens, so
fills of different lengths are compared per token at best. A model that cannot look
ahead scores the joint p(before, gap, after) instead. For one line its differences are
those of log p(gap | before, after), so it ranks fills of all lengths.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from lm_jax.config import EvaluateConfig, SampleConfig, require
from lm_jax.data.tokenizers import Tokenizer
from lm_jax.evaluation import sampler_likelihood
from lm_jax.evaluation.likelihood import window_nats
from lm_jax.language_model import Family, LanguageModel
from lm_jax.types import EOS, MASK, PAD, Params, PRNGKey


class Gap(NamedTuple):
    """A text with a gap, and the texts that may fill it."""

    before: str
    after: str
    fills: tuple[str, ...]


def parse(values: Any) -> Gap:
    """A gap from a line of JSON, {"before": ..., "fills": [...], "after": ...}.

    Raises:
      ValueError: a field is missing or of another type.
    """
    require(isinstance(values, dict), "it is no JSON object")
    fills = values.get("fills")
    texts = [values.get("before", ""), values.get("after", "")]
    require(
        isinstance(fills, list)
        and len(fills) > 0
        and all(isinstance(text, str) for text in fills),
        'it has no list of texts "fills"',
    )
    require(
        all(isinstance(text, str) for text in texts), '"before" and "after" are texts'
    )
    return Gap(texts[0], texts[1], tuple(fills))


class Rows(NamedTuple):
    """Every fill of every gap as a row.

    Attributes:
      x: the text with the fill and EOS, then MASK.
      template: the same with MASK in the gap.
      num_tokens: tokens of the fill.
    """

    x: Int[np.ndarray, "N L"]
    template: Int[np.ndarray, "N L"]
    num_tokens: Int[np.ndarray, " N"]


def encode(tokenizer: Tokenizer, gaps: Sequence[Gap], length: int) -> Rows:
    """The tokens of every fill. The three parts of a text are tokenized on their own,
    as in an infill.

    Raises:
      ValueError: there is no gap, a text is longer than the window, or a fill has no
        token.
    """
    require(len(gaps) > 0, "there are no gaps: give at least one")
    x, templates, counts = [], [], []
    for number, gap in enumerate(gaps, start=1):
        before, after = tokenizer.encode([gap.before.rstrip(" "), gap.after])
        for fill in gap.fills:
            (middle,) = tokenizer.encode([fill])
            row = [*before, *middle, *after, EOS]
            require(
                len(middle) > 0 and len(row) <= length,
                f"line {number}: the fill {fill!r} has {len(middle)} tokens, and the "
                f"text with it {len(row)}: a fill needs at least one, and a window has "
                f"{length}",
            )
            tail = [MASK] * (length - len(row))
            hidden = [*before, *[MASK] * len(middle), *after, EOS]
            x.append(row + tail)
            templates.append(hidden + tail)
            counts.append(len(middle))
    return Rows(np.array(x, np.int32), np.array(templates, np.int32), np.array(counts))


def score(
    family: Family,
    lm: LanguageModel,
    params: Params,
    rows: Rows,
    sampler: SampleConfig,
    cfg: EvaluateConfig,
    key: PRNGKey,
) -> tuple[str, np.ndarray]:
    """What is scored ("exact", "bound" or "joint"), and the nats of every row.

    Args:
      family, lm, params: the model.
      rows: from `encode`.
      sampler: resolved settings of the sampler.
      cfg: number of orders, and batch size.
      key: PRNG key.

    Raises:
      ValueError: the sampler has no likelihood.
    """
    if not family.can_infill:
        text = np.where(rows.x == MASK, PAD, rows.x).astype(np.uint16)
        nats, _ = window_nats(
            lm,
            params,
            text,
            key=key,
            num_draws=cfg.num_draws,
            batch_size=cfg.batch_size,
        )
        return "joint", nats
    order = family.order(sampler, rows.x.shape[1])
    paths = sampler_likelihood.replay(
        lm.sample,
        params,
        rows.x.astype(np.uint16),
        sampler,
        key=key,
        num_orders=cfg.num_orders if order.is_random else 1,
        batch_size=cfg.batch_size,
        templates=rows.template,
    )
    log_w = paths.log_p.sum(axis=2, dtype=np.float64)
    kind = "bound" if order.is_random else "exact"
    return kind, -sampler_likelihood.log_mean_exp(log_w)


def summary(
    gaps: Sequence[Gap], rows: Rows, kind: str, nats: np.ndarray
) -> list[dict[str, Any]]:
    """For each gap: kind, the scores of its fills, and the likeliest fill.

    "best" is the index of the fewest nats, "best_per_token" that of the fewest nats per
    token of the fill; None if no fill has a probability above zero. The order of bounds
    need not be that of the likelihoods.
    """
    lines, start = [], 0
    for gap in gaps:
        own = slice(start, start + len(gap.fills))
        start = own.stop
        per_token = nats[own] / rows.num_tokens[own]
        is_possible = bool(np.any(np.isfinite(nats[own])))
        fills = [
            {
                "text": text,
                "nats": float(x) if np.isfinite(x) else None,
                "num_tokens": int(n),
            }
            for text, x, n in zip(
                gap.fills, nats[own], rows.num_tokens[own], strict=True
            )
        ]
        lines.append(
            {
                "kind": kind,
                "best": int(np.argmin(nats[own])) if is_possible else None,
                "best_per_token": int(np.argmin(per_token)) if is_possible else None,
                "fills": fills,
            }
        )
    return lines
