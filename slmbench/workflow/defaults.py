"""What commands and functions go by unless told otherwise; apart, as a help page and the tab key need no more."""

from __future__ import annotations

SHOWN_ITEMS = 3
"""Items that `compare` shows of each task."""
DETECT = 0.03
"""The difference that `plan` looks for."""
