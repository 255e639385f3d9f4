"""The options of a row and the right one among them, as people write them down: read where there is one meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import DataError
from slmbench.foreign import check_depth, decoder
from slmbench.schema import TaskSpec
from slmbench.task._fields import field_at, texts_at
from slmbench.templates import Template
from slmbench.texts import NotText, as_text

MAX_DEPTH = 10
_DECODER = decoder(nan_is_null=True)
_TEXT_KEYS = ("text", "texts", "content", "option", "choice")
_LABEL_KEYS = ("label", "labels", "key", "id")
# What stands around a label: (A), A., A), [A], A:
_AROUND = re.compile(r"[(\[{]?\s*(.*?)\s*[)\]}.:]?")
_WHOLE = re.compile(r"(\d{1,9})\.0+")


@frozen
class Options:
    """The options of a row, at least two. labels: what the row itself calls them; None if it has no names."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None = None


def options_of(spec: TaskSpec, fields: Mapping[str, object]) -> Options:
    """The options of a row.

    `choices` is a list of templates, or a field: a list of texts or whole numbers, JSON of such a list, a struct of
    lists (`text` and `label`), a list of structs with these keys, or a struct whose keys are the labels. Options that
    are null or empty at the end of a row are not there; anywhere else they are an error, as a gold index would then
    mean another one. Raises DataError.
    """
    labels: Sequence[Any] | None = None
    texts: Sequence[Any]
    if isinstance(spec.choices, list):
        texts = [_option(source, fields) for source in spec.choices]
    else:
        texts, labels = _parts(field_at(fields, spec.choices or "", "choices"), str(spec.choices))
    if labels is not None and len(labels) != len(texts):
        raise DataError(f"choices: {len(labels)} labels for {len(texts)} texts")
    n = len(texts)
    while n and _is_absent(texts[n - 1]):
        n -= 1
    gone = [place for place in range(n) if _is_absent(texts[place])]
    if gone:
        raise DataError(
            f"choices: number {gone[0] + 1} of {len(texts)} is null or empty, and others follow; only the last "
            "options of a row may be missing"
        )
    found = []
    for place, text in enumerate(texts[:n], 1):
        try:
            found.append(as_text(text, f"{spec.choices}[{place - 1}]" if isinstance(spec.choices, str) else ""))
        except NotText as error:
            raise DataError(f"choices: {error}") from error
    if len(found) < 2:
        raise DataError(f"choices: expected at least two texts, none of them empty, got {found!r}")
    blank = [place for place, text in enumerate(found, 1) if not text.strip()]
    if blank:
        raise DataError(f"choices: number {blank[0]} of {len(found)} is only white space ({found[blank[0] - 1]!r})")
    return Options(tuple(found), None if labels is None else tuple(_label(one) for one in labels[:n]))


def gold_of(spec: TaskSpec, fields: Mapping[str, object], options: Options) -> int:
    """The index of the right option: `gold` is a label, where there are labels, else an index or an option's text.

    A whole number may be a float, and a label or text may be in other case or in brackets where that leaves one
    meaning. Raises DataError for all else, null and -1 among it.
    """
    try:
        text = Template(spec.gold or "").render({key: _whole(value) for key, value in fields.items()}).strip()
    except DataError as error:
        if "null" in str(error):
            raise DataError(f"gold: {error}; a row without one can't be scored: leave it out with `filled`") from error
        raise
    choices, labels = options.texts, options.labels
    if spec.labels is not None:
        labels = tuple(spec.labels) if isinstance(spec.labels, list) else texts_at(fields, spec.labels, "labels")
        # A task of five labels may have rows of three choices.
        labels = labels[: len(choices)] if isinstance(spec.labels, list) else labels
        if len(labels) != len(choices):
            raise DataError(f"labels: {len(labels)} of them for {len(choices)} choices")
    if not text:
        raise DataError("gold: is empty; a row without one can't be scored: leave it out with `filled`")
    if labels is not None:
        at = _place_among(labels, text)
        if at is not None:
            return at
        if spec.labels is not None:
            raise DataError(f"gold: {text!r} is not exactly one of the labels {list(labels)!r}{_hint(text, choices)}")
    return _place_of(text, choices)


def _option(source: str, fields: Mapping[str, object]) -> str | None:
    template = Template(source)
    if template.names and all(_is_absent(fields.get(name, "?")) for name in template.names):
        return None
    return template.render(fields)


def _parts(value: object, path: str, depth: int = 0) -> tuple[Sequence[object], Sequence[object] | None]:
    """(texts, labels) of a field."""
    if isinstance(value, str) and depth == 0:
        return _parts(_from_json(value, path), path, 1)
    if isinstance(value, Mapping):
        text, label = _key(value, _TEXT_KEYS), _key(value, _LABEL_KEYS)
        if text is not None and isinstance(value[text], list | tuple):
            labels = value[label] if label is not None else None
            if labels is not None and not isinstance(labels, list | tuple):
                raise DataError(f"choices: {path}.{label} is not a list, unlike {path}.{text}")
            return value[text], labels
        if value and not any(isinstance(one, list | tuple | Mapping) for one in value.values()):
            # Of a table's struct every row has all keys; those that a row lacks are null there.
            filled = {key: one for key, one in value.items() if not _is_absent(one)}
            return list(filled.values()), list(filled)
        raise DataError(f"choices: expected a list of texts, got a struct ({', '.join(map(str, value))})")
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, Mapping) for one in value):
            text, label = _key(value[0], _TEXT_KEYS), _key(value[0], _LABEL_KEYS)
            if text is None or not all(text in one for one in value):
                there = ", ".join(map(str, value[0]))
                raise DataError(f"choices: expected a list of texts, got a list of structs ({there})")
            labels = [one.get(label) for one in value] if label is not None else None
            return [one[text] for one in value], labels
        return value, None
    raise DataError(f"choices: expected a list of texts, got {'null' if value is None else type(value).__name__}")


def _from_json(text: str, path: str) -> object:
    bare = text.strip()
    if bare[:1] in ("[", "{"):
        try:
            check_depth(bare.encode("utf-8", "surrogatepass"), MAX_DEPTH)
            return _DECODER.decode(bare)
        except (ValueError, RecursionError):
            if "'" in bare:
                way = f"if it is Python's notation, declare `types: {{{path.split('.')[0]}: python}}` in the data set"
                raise DataError(f"choices: the text {bare[:60]!r} is not JSON; {way}") from None
    way = "write the list as JSON, or split it in a template of each option"
    raise DataError(f"choices: expected a list of texts, got the text {bare[:60]!r}; {way}")


def _key(value: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in value), None)


def _is_absent(value: object) -> bool:
    return value is None or value == ""


def _label(value: object) -> str:
    try:
        return as_text(_whole(value))
    except NotText as error:
        raise DataError(f"choices: a label: {error}") from error


def _whole(value: object) -> object:
    """The value with its whole-number floats as whole numbers: an index or label has no fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def _place_among(names: Sequence[str], text: str) -> int | None:
    """The place of the one name that a text is: as it stands, else in other case or without what stands around it."""
    for alike in (lambda one: one, lambda one: one.strip(), _folded):
        wanted = alike(text)
        there = [place for place, name in enumerate(names) if alike(name) == wanted]
        if there:
            return there[0] if len(there) == 1 else None
    return None


def _folded(text: str) -> str:
    match = _AROUND.fullmatch(text.strip())
    inner = match[1] if match is not None else text.strip()
    return " ".join((inner or text).split()).casefold()


def _place_of(text: str, choices: tuple[str, ...]) -> int:
    said = _WHOLE.fullmatch(text)
    digits = said[1] if said is not None and text not in choices else text
    as_index = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else len(choices)
    if as_index < len(choices):
        if digits in choices and choices[as_index] != digits:
            raise DataError(f"gold: {text!r} is an index and, elsewhere, one of the choices; declare 'labels'")
        return as_index
    at = _place_among(choices, text)
    if at is not None:
        return at
    message = f"gold: {text!r} is neither an index below {len(choices)} nor exactly one of the choices"
    raise DataError(message + _hint(text, choices))


def _hint(text: str, choices: tuple[str, ...]) -> str:
    """What a gold answer may mean that is none, with the way to say so."""
    n = len(choices)
    if text == "-1":
        return "; -1 stands for labels that are kept secret: evaluate a split that has them"
    if text == str(n):
        numbers = ", ".join(f"'{number}'" for number in range(1, n + 1))
        return f"; if it counts from 1, declare `labels: [{numbers}]`"
    letter = _folded(text)
    if len(letter) == 1 and "a" <= letter < chr(ord("a") + n):
        letters = ", ".join(chr(ord("A") + place) for place in range(n))
        return f"; if it is a letter, declare `labels: [{letters}]`"
    return ""
