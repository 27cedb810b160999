"""Text in (prompts, gaps to fill) and text out (stories and their file)."""

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from lm_jax.data.cache import whole_file
from lm_jax.data.tokenizer import Tokenizer
from lm_jax.types import EOS, MASK

_GAP = re.compile(r"\[([0-9]+)\]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A story, and what it takes to draw it again.

    Attributes:
      text: the first story of the window.
      tokens: the whole window.
      seed: of the key that the window was drawn from.
      sampler: the family, the settings, the row: whatever else decided the draw.
      finished: whether the story has ended inside the window.
    """

    text: str
    tokens: list[int]
    seed: int
    sampler: dict[str, Any]
    finished: bool


def prompt_template(
    tokenizer: Tokenizer, prompt: str, shape: tuple[int, int]
) -> Int[np.ndarray, "B L"]:
    """The prompt's tokens in every row, and MASK behind them.

    Raises:
      ValueError: the prompt leaves no room in the window.
    """
    tokens, length = _encode_before_free(tokenizer, prompt), shape[1]
    if len(tokens) >= length:
        raise ValueError(
            f"the prompt has {len(tokens)} tokens and the window {length}: shorten the "
            f"prompt to at most {length - 1} tokens"
        )
    return _template(tokens, shape)


def infill_template(
    tokenizer: Tokenizer, pattern: str, shape: tuple[int, int]
) -> Int[np.ndarray, "B L"]:
    """Fixed text around gaps: "Tom had a [8]. The end." has one gap of 8 free tokens.

    EOS stands behind the text and MASK behind that, as a window goes on with other
    stories. Brackets that hold anything but a number are text.

    Raises:
      ValueError: there is no gap, a gap of no tokens, or more than the window holds.
    """
    *pieces, tail = _GAP.split(pattern)  # text, number, text, number, ..., text
    texts, gaps = pieces[::2], [int(number) for number in pieces[1::2]]
    if not gaps:
        raise ValueError(
            f"the infill {pattern!r} has no gap: write [8] where 8 tokens are wanted"
        )
    if 0 in gaps:
        raise ValueError(
            f"the infill {pattern!r} has a gap of no tokens: [1] is the shortest gap"
        )
    fixed = [_encode_before_free(tokenizer, text) for text in texts]
    end = [*_encode(tokenizer, tail), EOS]
    num_tokens, length = sum(map(len, fixed)) + sum(gaps) + len(end), shape[1]
    if num_tokens > length:
        raise ValueError(
            f"the infill takes {num_tokens} tokens with its gaps and its end, and the "
            f"window has {length}: shorten the text or the gaps"
        )
    tokens = []
    for before, gap in zip(fixed, gaps, strict=True):
        tokens += [*before, *[MASK] * gap]
    return _template(tokens + end, shape)


def first_story(tokenizer: Tokenizer, tokens: ArrayLike) -> tuple[str, bool]:
    """The text before the first EOS, and whether there is an EOS."""
    ids = np.asarray(tokens)
    ends = np.flatnonzero(ids == EOS)
    if ends.size == 0:
        return tokenizer.decode(ids), False
    return tokenizer.decode(ids[: ends[0]]), True


def make_samples(
    tokenizer: Tokenizer,
    rows: Iterable[Int[np.ndarray, " L"]],
    seed: int,
    sampler: dict[str, Any],
) -> list[Sample]:
    """The samples of whole windows, numbered as they come."""
    samples = []
    for row, tokens in enumerate(rows):
        text, finished = first_story(tokenizer, tokens)
        samples.append(
            Sample(
                text=text,
                tokens=[int(token) for token in tokens],
                seed=seed,
                sampler={**sampler, "row": row},
                finished=finished,
            )
        )
    return samples


def write_samples(path: str | os.PathLike, samples: Iterable[Sample]) -> None:
    """One JSON object a line; the file appears once it is whole, or never."""
    with whole_file(Path(path)) as part, part.open("w", encoding="utf-8") as file:
        for sample in samples:
            json.dump(dataclasses.asdict(sample), file, ensure_ascii=False)
            file.write("\n")


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """What `write_samples` wrote.

    Raises:
      ValueError: a line is no sample; it is named.
    """
    samples = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                samples.append(Sample(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {path} is no sample ({error}): delete the file "
                    "and sample again"
                ) from None
    return samples


def _encode_before_free(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of text that free tokens follow.

    A last space is left to them: a piece holds a word and the space before it, so that
    after a space on its own a model would expect anything but a word.
    """
    return _encode(tokenizer, text.removesuffix(" "))


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode([text])[0].tolist()


def _template(tokens: list[int], shape: tuple[int, int]) -> Int[np.ndarray, "B L"]:
    template = np.full(shape, MASK, np.int32)
    template[:, : len(tokens)] = tokens
    return template
