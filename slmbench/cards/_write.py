"""A card's files in their folder, all of them or none; what somebody else wrote there is kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from attrs import frozen

from slmbench.cards._body import body_of
from slmbench.cards._facts import CardFacts
from slmbench.cards._head import head_of
from slmbench.cards._readme import marked, owner_of
from slmbench.cards._results import FOLDER, HEAD, result_files
from slmbench.errors import UsageError
from slmbench.files import disk_errors, write_together
from slmbench.foreign import open_plain
from slmbench.paths import shown

README = "README.md"
_WHOSE = {
    "edited": "was edited after `slmbench card` wrote it",
    "somebody": "was not written by `slmbench card`",
}


@frozen
class CardFiles:
    """What was written. names: below `folder`, README.md first. left_out: why which score has no result file."""

    folder: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    text: str


def write_card(facts: CardFacts, folder: str, *, force: bool = False) -> CardFiles:
    """Writes a card's README.md and its `.eval_results/*.yaml`; those of an earlier card that no longer hold go.

    force: also over a README.md, or a result file, that somebody else wrote or edited. Raises UsageError for such a
    one, SlmbenchError if nothing can be written.
    """
    text = card_text(facts)
    results, left_out = result_files(facts.scores)
    place = Path(folder)
    if not force:
        _refuse(place, results)
    gone = [path for path in _own_results(place) if f"{FOLDER}/{path.name}" not in results]
    contents = {README: text.encode(), **results}
    write_together({os.path.join(folder, name): data for name, data in contents.items()})
    with disk_errors(folder):
        for path in gone:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # It is not empty, or not there.
            (place / FOLDER).rmdir()
    return CardFiles(folder, tuple(contents), tuple(left_out), text)


def card_text(facts: CardFacts) -> str:
    """The whole README.md, head included."""
    return marked(head_of(facts).to_yaml(), body_of(facts))


def _refuse(place: Path, results: dict[str, bytes]) -> None:
    said = []
    if (owner := owner_of(place / README)) in _WHOSE:
        said.append(f"{shown(place / README)} {_WHOSE[owner]}")
    for name in results:
        if os.path.lexists(place / name) and not _is_own(place / name):
            said.append(f"{shown(place / name)} {_WHOSE['somebody']}")
    if said:
        raise UsageError("\n".join(f"{one}; --force writes over it, --out DIR elsewhere" for one in said))


def _own_results(place: Path) -> list[Path]:
    folder = place / FOLDER
    there = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    return [path for path in there if _is_own(path)]


def _is_own(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return file.read(len(HEAD)) == HEAD.encode()
    except OSError:
        return False
