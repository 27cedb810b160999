"""Templates from prompts and infills; samples from tokens, and their JSON lines."""

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

from lm_jax.data.tokenizers import Tokenizer
from lm_jax.files import whole_file
from lm_jax.old_names import renamed
from lm_jax.types import EOS, MASK, SampleOutput

_GAP = re.compile(r"(?<!\\)\[([0-9]{1,18})\]")
_BRACKETS = re.compile(r"\[[0-9]{1,18}\]")
_ESCAPE = re.compile(r"\\(?=\[[0-9]{1,18}\])")  # before brackets that are text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample, and all that is needed to draw it again.

    Attributes:
      text: text before the first EOS of the window.
      tokens: tokens of the whole window.
      seed: seed of its random key.
      sampler: family, settings, row and all else that determines the sample.
      finished: whether the window has an EOS.
      nfe: number of network calls that this window alone would need.
      unmask_step: step at which each token was unmasked, -1 if it was given; None
        without a trace.
      trace: changes in order, as [step, position, token]; the token MASK is a position
        that was remasked. None without a trace.
    """

    text: str
    tokens: list[int]
    seed: int
    sampler: dict[str, Any]
    finished: bool
    nfe: int = 0
    unmask_step: list[int] | None = None
    trace: list[list[int]] | None = None


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
            f"the infill {infill!r} has text after a gap, and a left-to-right model "
            "cannot look ahead: begin the text with --prompt, or fill gaps with "
            "mdlm_jax.sample"
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


def first_document(tokenizer: Tokenizer, tokens: ArrayLike) -> tuple[str, bool]:
    """Text before the first EOS, and whether there is an EOS."""
    ids = np.asarray(tokens)
    ends = np.flatnonzero(ids == EOS)
    if ends.size == 0:
        return tokenizer.decode(ids), False
    return tokenizer.decode(ids[: ends[0]]), True


def make_samples(
    tokenizer: Tokenizer,
    output: SampleOutput,
    template: Int[np.ndarray, "B L"],
    first_row: int,
    seed: int,
    sampler: dict[str, Any],
) -> list[Sample]:
    """Samples from the output of a sampler for one batch.

    Args:
      tokenizer: tokenizer of the run.
      output: output of the sampler, on the host.
      template: given tokens, and MASK elsewhere.
      first_row: number of the first row.
      seed, sampler: see `Sample`.
    """
    samples = []
    for row, tokens in enumerate(np.asarray(output.tokens)):
        text, finished = first_document(tokenizer, tokens)
        trace = unmask_step = None
        if output.history is not None:
            trace = events(template[row], np.asarray(output.history)[:, row])
            unmask_step = np.asarray(output.unmask_step)[row].tolist()
        samples.append(
            Sample(
                text=text,
                tokens=tokens.tolist(),
                seed=seed,
                sampler={**sampler, "row": first_row + row},
                finished=finished,
                nfe=int(output.nfe_per_row[row]),
                unmask_step=unmask_step,
                trace=trace,
            )
        )
    return samples


def events(
    start: Int[np.ndarray, " L"], history: Int[np.ndarray, "T L"]
) -> list[list[int]]:
    """[step, position, token] of every change, in order."""
    before = np.concatenate([start[None], history[:-1]])
    steps, positions = np.nonzero(history != before)
    tokens = history[steps, positions]
    return np.stack([steps, positions, tokens], axis=1).tolist()


def to_json(sample: Sample) -> str:
    """One line of JSON, without the fields that are None."""
    fields = {name: value for name, value in vars(sample).items() if value is not None}
    return json.dumps(fields, ensure_ascii=False)


def parse_sample(line: str) -> Sample:
    """The inverse of `to_json`. Raises ValueError or TypeError for any other line."""
    return Sample(**renamed(json.loads(line)))


def write_samples(path: str | os.PathLike, samples: Iterable[Sample]) -> None:
    """Writes one JSON object per line, atomically."""
    with whole_file(Path(path)) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(to_json(sample) + "\n" for sample in samples)


def read_samples(path: str | os.PathLike) -> list[Sample]:
    """The samples of a file.

    Raises:
      ValueError: a line is no sample; the message has its number.
    """
    samples = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                samples.append(parse_sample(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {path} is no sample ({error}): delete the file "
                    "and sample again"
                ) from None
    return samples


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
