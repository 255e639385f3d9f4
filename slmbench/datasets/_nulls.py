"""NaN, NaT and NA as null: what a table means by a value that is not there, whoever wrote the table."""

from __future__ import annotations

from typing import Any


def without_nan(value: object) -> Any:
    """The value with every NaN, NaT and NA in it as None. Lists and dicts are made anew only if something changes.

    Numbers of numpy become Python's own, arrays lists.
    """
    if value is None or isinstance(value, str | bool | int | bytes):
        return value
    if isinstance(value, dict):
        made = {key: without_nan(inner) for key, inner in value.items()}
        return made if any(made[key] is not value[key] for key in made) else value
    if isinstance(value, list | tuple):
        parts = [without_nan(inner) for inner in value]
        same = all(part is inner for part, inner in zip(parts, value, strict=True))
        return value if same else parts
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return without_nan(value.tolist())
    return None if _is_null(value) else value


def _is_null(value: object) -> bool:
    try:
        return bool(value != value)  # NaN of any kind and NaT are the only values that differ from themselves.
    except (TypeError, ValueError):  # pandas' NA can't be asked; an array has many answers.
        return type(value).__name__ == "NAType"
