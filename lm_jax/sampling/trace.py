"""A traced sample as text alone: what it takes to show how it was written."""

from typing import Any

import numpy as np
from jaxtyping import Int

from lm_jax.data.tokenizer import Tokenizer
from lm_jax.sampling.text import Sample
from lm_jax.types import EOS, MASK

END = 0  # the piece of EOS: no text, as text may hold every character


def playback(tokenizer: Tokenizer, sample: Sample) -> dict[str, Any]:
    """Pieces of text in place of tokens, ready for JSON.

    Args:
      tokenizer: that the sample was written with.
      sample: traced.

    Returns:
      text: the first document of the window; nfe: of the network, for this window.
      given: per position the piece that was given, or None where text was wanted.
      events: [step, position, piece] in their order; the piece None is a position that
        was masked again. After all of them the pieces before the first END, joined, are
        the text.
      Where a text stops at its first EOS, what lies behind is left out.

    Raises:
      ValueError: the sample was not traced.
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
        else:  # written over, later on
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
    return [END if token == EOS else surface for surface, token in pairs]


def shown_length(tokens: Int[np.ndarray, " L"]) -> int:
    """Positions up to the first EOS behind which there is nothing but EOS, or all."""
    texts = np.flatnonzero(tokens != EOS)
    end = int(texts[-1]) + 1 if texts.size else 0
    return min(end + 1, len(tokens))
