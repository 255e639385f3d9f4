"""What plugins add, and what slmbench's own metrics and formats are declared by: a name, a summary and a version.

    @slmbench.metric("word_overlap", summary="Share of the reference's words that are there.", version="1")
    def word_overlap(output, references): ...

A decorator marks its function and does nothing else: whoever loads a module collects the marks (`marked`), and whoever
lists what there is reads them without running the module (`headers`). This module stays with the standard library's
cheapest parts, as `slmbench list` imports it.
"""

from slmbench.registry._marks import (
    FACTS,
    Refusal,
    Registered,
    Registry,
    engine,
    format,
    is_marked,
    loader,
    marked,
    merge_method,
    metric,
)
from slmbench.registry._text import (
    KINDS,
    Header,
    Promises,
    definition,
    headers,
    headers_in,
    imports_of,
    no_python,
    own_headers,
    promises,
    source_sha256,
)

__all__ = [
    "FACTS",
    "KINDS",
    "Header",
    "Promises",
    "Refusal",
    "Registered",
    "Registry",
    "definition",
    "engine",
    "format",
    "headers",
    "headers_in",
    "imports_of",
    "is_marked",
    "loader",
    "marked",
    "merge_method",
    "metric",
    "no_python",
    "own_headers",
    "promises",
    "source_sha256",
]
