"""HFLM as a type checker sees it; at run time nothing, as lm-eval takes seconds to import.

Classes that are put before HFLM name it as their base here, and get the real one where they are put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
else:
    HFLM = object

__all__ = ["HFLM"]
