"""Which adapter a request goes to, by the request's text alone; and what that costs against the best choice."""

from slmbench.routing._base_texts import BASE_TEXTS
from slmbench.routing._choices import AUTO, ORACLE, RANDOM, OracleChoice, RandomChoice, RouterChoice
from slmbench.routing._file import read_router, write_router
from slmbench.routing._fit import HEADS, ScoredTexts, fit_router
from slmbench.routing._router import Route, RoutedAdapter, Router, RouterBase, RouterClass
from slmbench.routing._texts import ROWS, VALIDATION_ROWS, TaskTexts, texts_of, user_text

__all__ = [
    "AUTO",
    "BASE_TEXTS",
    "HEADS",
    "ORACLE",
    "RANDOM",
    "ROWS",
    "VALIDATION_ROWS",
    "OracleChoice",
    "RandomChoice",
    "Route",
    "RoutedAdapter",
    "Router",
    "RouterBase",
    "RouterChoice",
    "RouterClass",
    "ScoredTexts",
    "TaskTexts",
    "fit_router",
    "read_router",
    "texts_of",
    "user_text",
    "write_router",
]
