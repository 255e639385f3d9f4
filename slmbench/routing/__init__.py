"""Which adapter a request goes to, by the request's text alone; and what that costs against the best choice."""

from slmbench.routing._file import read_router, write_router
from slmbench.routing._fit import HEADS, fit_router
from slmbench.routing._router import Route, RoutedAdapter, Router, RouterBase, RouterClass
from slmbench.routing._texts import TaskTexts, texts_of, user_text

__all__ = [
    "HEADS",
    "Route",
    "RoutedAdapter",
    "Router",
    "RouterBase",
    "RouterClass",
    "TaskTexts",
    "fit_router",
    "read_router",
    "texts_of",
    "user_text",
    "write_router",
]
