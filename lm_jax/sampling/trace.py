"""Playback of a traced sample: the order of unmasking, as pieces of text."""

from typing import Any

import numpy as np
from jaxtyping import Int

from lm_jax.data.tokenizers import Tokenizer
from lm_jax.sampling.samples_file import Sample
from lm_jax.types import EOS, MASK

END = 0  # stands for EOS; not a string, as every string may be a piece of text


def events(
    start: Int[np.ndarray, " L"], history: Int[np.ndarray, "T L"]
) -> list[list[int]]:
    """[step, position, token] of every change, in order."""
    before = np.concatenate([start[None], history[:-1]])
    steps, positions = np.nonzero(history != before)
    tokens = history[steps, positions]
    return np.stack([steps, positions, tokens], axis=1).tolist()


def playback(tokenizer: Tokenizer, sample: Sample) -> dict[str, Any]:
    """The trace of a sample with pieces of text in place of tokens, ready for JSON.

    Args:
      tokenizer: tokenizer of the run.
      sample: traced sample.

    Returns:
      text, nfe: see `Sample`.
      given: given piece at each position, or None if the position was free.
      events: [step, position, piece] in order; the piece None is a position that was
        remasked. After all events, the pieces before the first END, joined, are the
        text.
      Positions after `shown_length` are left out.

    Raises:
      ValueError: the sample has no trace.
    """
    if sample.trace is None or sample.unmask_step is None:
        raise ValueError("this sample has no trace: sample again with --trace")
    tokens = np.array(sample.tokens)
    length = shown_length(tokens)
    last = dict(enumerate(_pieces(tokenizer, tokens)))
    given = [
        last[position] if step < 0 else None
        for position, step in enumerate(sample.unmask_step[:length])
    ]
    events = []
    for step, position, token in sample.trace:
        if position >= length:
            continue
        if token == tokens[position]:
            piece = last[position]
        else:  # replaced by a later event
            piece = None if token == MASK else _pieces(tokenizer, np.array([token]))[0]
        events.append([step, position, piece])
    return {
        "text": sample.text,
        "nfe": sample.nfe,
        "given": given,
        "events": events,
    }


def _pieces(tokenizer: Tokenizer, tokens: np.ndarray) -> list[str | int]:
    pieces = tokenizer.pieces(tokens)
    pairs = zip(pieces, tokens.tolist(), strict=True)
    return [END if token == EOS else piece for piece, token in pairs]


def shown_length(tokens: Int[np.ndarray, " L"]) -> int:
    """Number of positions up to the first EOS that only EOS follows, else all."""
    texts = np.flatnonzero(tokens != EOS)
    end = int(texts[-1]) + 1 if texts.size else 0
    return min(end + 1, len(tokens))
