"""The licence that a card names: of all that went in, the one whose terms hold the others'; never a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

UNKNOWN = "unknown"
OTHER = "other"

_ATTRIBUTION = frozenset({"attribution"})
_SHARE_ALIKE = _ATTRIBUTION | {"share alike"}
_NON_COMMERCIAL = _ATTRIBUTION | {"not commercial"}
# What each asks beyond a notice, as far as one can hold another's terms. The keys are the hub's own names of licences.
_TERMS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("cc0-1.0", "unlicense", "wtfpl", "pddl", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc"),
        frozenset[str](),
    ),
    **dict.fromkeys(("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "odc-by"), _ATTRIBUTION),
    **dict.fromkeys(("cc-by-sa-3.0", "cc-by-sa-4.0"), _SHARE_ALIKE),
    **dict.fromkeys(("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"), _NON_COMMERCIAL),
    **dict.fromkeys(("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"), _NON_COMMERCIAL | _SHARE_ALIKE),
    **dict.fromkeys(("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"), _NON_COMMERCIAL | {"no derivatives"}),
    **{
        name: frozenset({f"the terms of {name}"})
        for name in (
            *("openrail", "creativeml-openrail-m", "bigscience-openrail-m", "bigscience-bloom-rail-1.0"),
            *("bigcode-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma"),
            *("gpl-3.0", "lgpl-3.0", "agpl-3.0", "odbl"),
        )
    },
}


@frozen
class Licensed:
    """Something that went in, and the licence that its declaration gives; None if it gives none."""

    what: str
    license: str | None

    @property
    def unknown(self) -> bool:
        return self.license is None or self.license.strip().lower() in ("", UNKNOWN)


@frozen
class Licence:
    """What a card's head says. license: the hub's name of one, `other` or `unknown`; name: what `other` stands for.

    why: in a sentence, how it was come by.
    """

    license: str
    name: str | None
    why: str


def strictest(parts: Sequence[Licensed]) -> Licence:
    """The one licence whose terms hold those of all others, of what went in.

    `unknown` if one of them isn't known, as it may ask anything; `other` if no one holds the others' terms, and for a
    licence that the hub has no name of.
    """
    if not parts or any(part.unknown for part in parts):
        lacking = ", ".join(dict.fromkeys(part.what for part in parts if part.unknown))
        said = f"no licence is declared of {lacking}" if lacking else "nothing is declared of what went in"
        return Licence(UNKNOWN, None, f"{said}, so none can be named for what came out")
    named = {part.license.strip(): _terms(part.license) for part in parts if part.license is not None}
    if len(named) == 1:
        return _named(next(iter(named)), "all that went in has it")
    everything = frozenset[str]().union(*named.values())
    # Of several that ask the same the first is the base's.
    found = next((name for name, terms in named.items() if terms == everything), None)
    if found is not None:
        others = " and ".join(name for name in named if name != found)
        return _named(found, f"nothing that went in asks more; beside it there is {others}")
    listed = " and ".join(named)
    slug = "-and-".join(_slug(name) for name in named)
    return Licence(OTHER, slug, f"no one licence of what went in holds the terms of the others: {listed}")


def _named(name: str, why: str) -> Licence:
    known = name.lower()
    return Licence(known, None, why) if known in _TERMS else Licence(OTHER, _slug(name), f"{name}: {why}")


def _terms(name: str) -> frozenset[str]:
    return _TERMS.get(name.lower(), frozenset({f"the terms of {name}"}))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or OTHER
