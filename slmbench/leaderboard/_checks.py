"""Typed look-ups in a run's record that collect every fault instead of stopping at the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.errors import Problem


class RecordChecker:
    """Reads fields of one record by dotted name (`metrics.0.value`); `problems` holds what was wrong so far."""

    def __init__(self, path: str, record: Mapping[str, Any]) -> None:
        self.path = path
        self.record = record
        self.problems: list[Problem] = []

    def add(self, name: str, got: Any, wanted: str) -> None:
        """Notes that field `name` holds `got` where `wanted` belongs."""
        shown = repr(got)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        self.problems.append(Problem(self.path, 0, 0, f"field {name} is {shown}, has to be {wanted}"))

    def value(self, name: str) -> Any:
        """The field's value, None where it or something above it is missing."""
        found: Any = self.record
        for part in name.split("."):
            if isinstance(found, list) and part.isdigit():
                found = found[int(part)]
            elif isinstance(found, Mapping):
                found = found.get(part)
            else:
                return None
        return found

    def text(self, name: str, optional: bool = False) -> str | None:
        """The field's text, None (and a problem, unless optional and null) where it is none or empty."""
        found = self.value(name)
        if isinstance(found, str) and found:
            return found
        if not (optional and found is None):
            self.add(name, found, "text")
        return None

    def flag(self, name: str, optional: bool = False) -> bool | None:
        """The field's truth value, None (and a problem, unless optional and null) where it is none."""
        found = self.value(name)
        if isinstance(found, bool):
            return found
        if not (optional and found is None):
            self.add(name, found, "true or false")
        return None

    def whole(self, name: str, optional: bool = False) -> int | None:
        """The field's whole number, at least 0; None (and a problem, unless optional and null) where it is none."""
        found = self.value(name)
        if type(found) is int and found >= 0:
            return found
        if not (optional and found is None):
            self.add(name, found, "a whole number, 0 or more")
        return None

    def finite(self, name: str, optional: bool = False) -> float | None:
        """The field's finite number; None (and a problem, unless optional and null) where it is none."""
        found = self.value(name)
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            try:
                number = float(found)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
        if not (optional and found is None):
            self.add(name, found, "a finite number")
        return None

    def one_of(self, name: str, allowed: Sequence[Any]) -> None:
        """Notes a problem unless the field holds one of `allowed`."""
        found = self.value(name)
        if found not in allowed:
            self.add(name, found, " or ".join(repr(value) for value in allowed))
