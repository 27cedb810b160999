"""Names that JSON files of earlier versions use, and the names that replaced them."""

from typing import Any

SAMPLERS = {
    "careful": "low_temperature",
    "study": "vicentino2026",
    "study_prompt": "vicentino2026_prompt",
}
SCHEDULES = {"study": "cos_squared"}
KEYS = {
    "mark_start": "bos_at_start",
    "num_calls": "nfe",
    "row_calls": "nfe_per_row",
    "step_of": "unmask_step",
    **{f"sampler={old}": f"sampler={new}" for old, new in SAMPLERS.items()},
}


def renamed(values: Any, key: str = "") -> Any:
    """The content of a JSON file, with the names of this version.

    Args:
      values: what the file holds, or a part of it.
      key: name of that part.

    >>> renamed({"sampling": {"num_calls": 3}, "model": {"schedule": "study"}})
    {'sampling': {'nfe': 3}, 'model': {'schedule': 'cos_squared'}}
    """
    if isinstance(values, dict):
        names = KEYS | SAMPLERS if key == "writings" else KEYS
        return {names.get(k, k): renamed(value, k) for k, value in values.items()}
    if isinstance(values, list):
        return [renamed(value, key) for value in values]
    if not isinstance(values, str):
        return values
    names = SCHEDULES if key.endswith("schedule") else SAMPLERS
    is_name = key.endswith(("schedule", "sampler", "samplers")) or key in ("AR", "MDLM")
    return names.get(values, values) if is_name else values
