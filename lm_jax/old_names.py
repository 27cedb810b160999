"""Names that JSON files of earlier versions use, and the names that replaced them."""

import ast
from typing import Any

SAMPLERS = {
    "careful": "low_temperature",
    "study": "vicentino2026",
    "study_prompt": "vicentino2026_prompt",
}
# Fields of `model` that only MDLM has.
MDLM = (
    "head",
    "bos_at_start",
    "time_embedding",
    "time_scale",
    "schedule",
    "times",
    "objective",
)
# By the end of the key that holds the value; rows of the ablation have a family's.
VALUES = {
    "schedule": {"study": "cos_squared"},
    "windows": {"story": "document"},
    **dict.fromkeys(("sampler", "samplers", "AR", "MDLM"), SAMPLERS),
}
KEYS = {
    "mark_start": "bos_at_start",
    "max_stories": "max_documents",
    "words_per_story": "words_per_document",
    "num_calls": "nfe",
    "row_calls": "nfe_per_row",
    "step_of": "unmask_step",
    "model.mark_start": "mdlm.bos_at_start",
    **{f"model.{name}": f"mdlm.{name}" for name in MDLM},
    **{f"sampler={old}": f"sampler={new}" for old, new in SAMPLERS.items()},
}

# By the key of the dictionary that has them as keys.
BY_PARENT = {"writings": SAMPLERS, "human": {"story": "document"}}


def renamed(values: Any, key: str = "") -> Any:
    """The content of a JSON file, with the names of this version.

    Args:
      values: what the file holds, or a part of it.
      key: name of that part.

    >>> renamed({"sampling": {"num_calls": 3}, "model": {"schedule": "study"}})
    {'sampling': {'nfe': 3}, 'model': {'schedule': 'cos_squared'}}
    """
    if isinstance(values, dict):
        names: dict[str, str] = KEYS | BY_PARENT.get(key, {})
        found = {str(names.get(k, k)): renamed(x, k) for k, x in values.items()}
        return (
            _sections(found) if {"model", "optimizer", "train"} <= set(found) else found
        )
    if isinstance(values, list):
        return [renamed(value, key) for value in values]
    if not isinstance(values, str):
        return values
    for ending, names in VALUES.items():
        if key.endswith(ending):
            return names.get(values, values)
    return values


def _sections(config: dict[str, Any]) -> dict[str, Any]:
    """A config with MDLM's fields in their own section, and overrides as a mapping."""
    model, config = dict(config["model"]), dict(config)
    moved = {name: model.pop(name) for name in MDLM if name in model}
    overrides: dict[str, dict[str, Any]] = {}
    for part in filter(None, map(str.strip, config.pop("unequal", "").split(","))):
        path, _, text = part.partition("=")
        family, _, field = path.split(".")
        if family == "mdlm" and KEYS.get(field, field) in MDLM:
            moved |= renamed({KEYS.get(field, field): _value(text)})
        else:
            overrides.setdefault(family, {})[field] = _value(text)
    if moved:
        config |= {"model": model, "mdlm": moved}
    return config | ({"family_overrides": overrides} if overrides else {})


def _value(text: str) -> Any:
    """A value as `unequal` had it: a Python literal, or a word without quotes."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
