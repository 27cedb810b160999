"""Names that JSON files of earlier versions use, and the names that replaced them."""

from typing import Any

SAMPLERS = {
    "careful": "low_temperature",
    "study": "vicentino2026",
    "study_prompt": "vicentino2026_prompt",
}
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
        names = KEYS | BY_PARENT.get(key, {})
        return {names.get(k, k): renamed(value, k) for k, value in values.items()}
    if isinstance(values, list):
        return [renamed(value, key) for value in values]
    if not isinstance(values, str):
        return values
    for ending, names in VALUES.items():
        if key.endswith(ending):
            return names.get(values, values)
    return values
