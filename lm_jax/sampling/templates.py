"""Templates: the given tokens of a prompt or of an infill, and MASK elsewhere."""

import re

import numpy as np
from jaxtyping import Int

from lm_jax.data.tokenizers import Tokenizer
from lm_jax.types import EOS, MASK

_GAP = re.compile(r"(?<!\\)\[([0-9]{1,18})\]")
_BRACKETS = re.compile(r"\[[0-9]{1,18}\]")
_ESCAPE = re.compile(r"\\(?=\[[0-9]{1,18}\])")  # before brackets that are text


def make_template(
    tokenizer: Tokenizer,
    shape: tuple[int, int],
    prompt: str = "",
    infill: str = "",
    can_infill: bool = True,
) -> Int[np.ndarray, "B L"]:
    """Given tokens of every row, from a prompt or an infill; MASK elsewhere.

    Raises:
      ValueError: both are given, or the text does not fit into the window.
    """
    if prompt and infill:
        raise ValueError(
            f"prompt {prompt!r} and infill {infill!r} exclude each other: begin the "
            "infill with the prompt"
        )
    if infill and not can_infill:
        raise ValueError(
            f"the infill {infill!r} has gaps, and a left-to-right model cannot look "
            "ahead to what follows one: give what comes before the first gap as "
            "--prompt, or fill gaps with mdlm_jax.sample"
        )
    if infill:
        return infill_template(tokenizer, infill, shape)
    return prompt_template(tokenizer, prompt, shape)


def prompt_template(
    tokenizer: Tokenizer, prompt: str, shape: tuple[int, int]
) -> Int[np.ndarray, "B L"]:
    """The tokens of the prompt in every row, then MASK.

    Raises:
      ValueError: the prompt leaves no room in the window.
    """
    tokens, length = _encode_before_gap(tokenizer, prompt), shape[1]
    if len(tokens) >= length:
        raise ValueError(
            f"the prompt has {len(tokens)} tokens and the window {length}: shorten the "
            f"prompt to at most {length - 1} tokens"
        )
    return _template(tokens, shape)


def infill_template(
    tokenizer: Tokenizer, pattern: str, shape: tuple[int, int]
) -> Int[np.ndarray, "B L"]:
    r"""Fixed text around gaps: "Tom had a [8]. The end." has one gap of 8 free tokens.

    EOS follows the text, then MASK, as a window continues with other documents.
    Brackets around anything but a number are text, and so are those after a backslash:
    "It was \[12] here" has no gap.

    Raises:
      ValueError: there is no gap, a gap has no tokens, or the window is too short.
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
    fixed = [_encode_before_gap(tokenizer, _ESCAPE.sub("", text)) for text in texts]
    end = [*_encode(tokenizer, _ESCAPE.sub("", tail)), EOS]
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


def escaped(text: str) -> str:
    """The text with a backslash before brackets that an infill would read as a gap."""
    return _BRACKETS.sub(lambda match: "\\" + match[0], text)


def _encode_before_gap(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text that is followed by free tokens.

    Strips spaces at the end: a token includes the space before a word, so a text that
    ends in a space is out of distribution.
    """
    return _encode(tokenizer, text.rstrip(" "))


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text {text!r} is not UTF-8 at character {error.start}: correct it"
        ) from None
    return tokenizer.encode([text])[0].tolist()


def _template(tokens: list[int], shape: tuple[int, int]) -> Int[np.ndarray, "B L"]:
    template = np.full(shape, MASK, np.int32)
    template[:, : len(tokens)] = tokens
    return template
