"""What plugins add, and what slmbench's own metrics and formats are declared by: a name, a summary and a version.

    @slmbench.metric("word_overlap", summary="Share of the reference's words that are there.", version="1")
    def word_overlap(output, references): ...

A decorator marks its function and does nothing else: whoever loads a module collects the marks (`marked`), and whoever
lists what there is reads them without running the module (`slmbench.headers`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from slmbench.errors import DeclarationError, HookError, Problem, SlmbenchError, UsageError, did_you_mean
from slmbench.headers import FOLDERS, own_headers, source_sha256
from slmbench.paths import shown

F = TypeVar("F", bound=Callable[..., object])
FORMAT_KINDS = ("completion", "turns", "object")
_FLAG = (lambda value: isinstance(value, bool), "True or False")
_FUNCTION = (lambda value: value is None or callable(value), "a function")
SPACES = ("weights", "adapters")
ENGINE_OPTIONS = {"kv_budget", "latency"}
FACTS: dict[str, dict[str, tuple[Callable[[object], bool], str]]] = {
    "metric": {
        "values": (lambda value: _are_names(value), "a list of names, each once"),
        "range": (lambda value: value is None or _is_range(value), "(lowest, highest) or None"),
        **dict.fromkeys(("higher_is_better", "binary", "at_once", "reads_choices", "reads_whole", "describes"), _FLAG),
        **dict.fromkeys(("pool", "remarks"), _FUNCTION),
        "samples": (lambda value: type(value) is int and value > 0, "a whole number from 1 on"),
        "citation": (lambda value: isinstance(value, str), "a text"),
    },
    "format": {
        "kind": (lambda value: value in FORMAT_KINDS, "completion, turns or object"),
        "special_tokens": (lambda value: value is None or isinstance(value, bool), "True, False or None"),
        **dict.fromkeys(("write", "read", "stop", "partial", "ends_turn", "template_of"), _FUNCTION),
    },
    "loader": {},
    "engine": {
        "options": (lambda value: _are_names(value) and set(value) <= ENGINE_OPTIONS, "a list of kv_budget, latency"),  # type: ignore[call-overload]
        "auto_batch": (lambda value: type(value) is int and value > 0, "a whole number from 1 on"),
    },
    "merge_method": {
        **dict.fromkeys(("needs_base", "linear", "average", "experimental"), _FLAG),
        "models": (lambda value: _is_count(value), "(the fewest, the most or None)"),
        "space": (lambda value: value in SPACES, "weights or adapters"),
        "ranges": (lambda value: _are_intervals(value), "a dict of a parameter's name and an interval, as '(0, 1]'"),
    },
}
"""What a decorator may say beside name, summary and version, and of what kind it is."""

_MARK = "__slmbench__"
_INTERVAL = re.compile(r"([\[(])(-?[0-9]+(?:\.[0-9]+)?|-inf), (-?[0-9]+(?:\.[0-9]+)?|inf)([\])])")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@./-]{0,79}")


class Registered(NamedTuple):
    """A function with what its decorator says. version: of what a plugin brings, with a digest of its file behind it.

    facts: what is particular to the kind. plugin: whether it comes from outside of slmbench.
    """

    kind: str
    name: str
    summary: str
    version: str
    path: str
    line: int
    function: Callable[..., Any]
    facts: Mapping[str, Any]
    plugin: bool

    @property
    def where(self) -> str:
        """File and line, for a message."""
        return f"{shown(self.path)}:{self.line}"

    def fault(self, what: str, of: str = "", error: BaseException | None = None) -> HookError:
        """What went wrong, at the innermost line of the file that an error went through, else that of the definition.

        what: all of it, or what stands before an error. of: the item or row that it was about.
        """
        import traceback

        frames = traceback.extract_tb(error.__traceback__) if error is not None else []
        lines = [frame.lineno for frame in frames if frame.filename == self.path]
        said = what if error is None else f"{what}{type(error).__name__}: {error}".rstrip(": ")
        place = f"{shown(self.path)}:{(lines or [self.line])[-1]}"
        return HookError(f"{place}: {self.kind} {self.name!r}: {said}" + f" ({of})" * bool(of))


def _decorator(kind: str, name: str, summary: str, version: str, facts: Mapping[str, object]) -> Callable[[F], F]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a {kind}'s name is letters, digits and _ @ . / -, at most 80 of them; got {name!r}")
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        raise ValueError(f"{kind} {name!r}: summary is one line that says what it is; got {summary!r}")
    if not isinstance(version, str) or not version.strip() or "+" in version:
        raise ValueError(f'{kind} {name!r}: version is a text without a + that changes when results could, as in "1"')
    if kind == "metric" and re.fullmatch(r"pass@[0-9]+", name) and not facts.get("factory"):
        raise ValueError(f"metric {name!r}: pass@k of every k is slmbench's own; give it another name")

    def mark(function: F) -> F:
        if not callable(function):
            raise ValueError(f"{kind} {name!r}: a function is decorated; got a {type(function).__name__}")
        if not str(getattr(function, "__module__", "")).startswith("slmbench."):
            _hold_facts(kind, name, facts)
        marks = [*getattr(function, _MARK, ()), (kind, name, summary, version, facts)]
        setattr(function, _MARK, marks)
        return function

    return mark


def _hold_facts(kind: str, name: str, facts: Mapping[str, object]) -> None:
    """Raises ValueError for a fact that such a thing doesn't have, or of another kind."""
    for key, value in facts.items() if kind in FACTS else ():
        if key not in FACTS[kind]:
            raise ValueError(f"{kind} {name!r} has no {key!r}{did_you_mean(key, FACTS[kind])}")
        fits, wanted = FACTS[kind][key]
        if not fits(value):
            known = {"kind": FORMAT_KINDS, "space": SPACES}.get(key)
            near = did_you_mean(value, known) if known and isinstance(value, str) else ""
            raise ValueError(f"{kind} {name!r}: {key} is {wanted}; got {value!r}{near}")
    if facts.get("at_once") and facts.get("pool"):
        raise ValueError(f"{kind} {name!r}: at_once and pool don't go together; leave one out")
    if facts.get("binary") and (facts.get("pool") or facts.get("range", ()) is None):
        raise ValueError(f"{kind} {name!r}: binary says that each item's value is an end of its range; leave it out")


def _are_names(value: object) -> bool:
    names = [one for one in value if isinstance(one, str) and one] if isinstance(value, list | tuple) else []
    return isinstance(value, list | tuple) and 0 < len(set(names)) == len(value)


def _is_range(value: object) -> bool:
    ends = value if isinstance(value, list | tuple) and len(value) == 2 else (1, 0)
    return all(isinstance(end, int | float) for end in ends) and bool(ends[0] < ends[1])


def _is_count(value: object) -> bool:
    least, most = value if isinstance(value, list | tuple) and len(value) == 2 else (0, 0)
    return type(least) is int and least > 0 and (most is None or (type(most) is int and most >= least))


def _are_intervals(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str)
        and isinstance(one, str)
        and (found := _INTERVAL.fullmatch(one)) is not None
        and float(found[2]) < float(found[3])
        for key, one in value.items()
    )


def interval(text: str) -> Callable[[float], bool]:
    """Whether a number lies in an interval, as `(0, 1]` is that of numbers above 0 up to 1."""
    found = _INTERVAL.fullmatch(text)
    assert found is not None
    least, most = float(found[2]), float(found[3])
    return lambda value: (
        (least < value or (found[1] == "[" and value == least))
        and (value < most or (found[4] == "]" and value == most))
    )


def metric(name: str, *, summary: str, version: str, **facts: object) -> Callable[[F], F]:
    """Registers a metric of one item. Its parameters are what it is handed, by name: docs/plugins.md lists them.

    It returns a float, or a dict with the keys `values`. Facts: values (the names of a dict's values); range (lowest
    and highest value, (0, 1) unless told; None for none); higher_is_better; binary (each value is an end of the range);
    describes (it says what a text is like and judges none: no rank, no part in means, no gold answer held to it);
    at_once (it takes lists of all items and returns a list); pool (makes a run's values of what the function returned
    for all items, where a mean won't do); samples (of a code task, how many it needs); citation.
    """
    return _decorator("metric", name, summary, version, facts)


def format(name: str, *, summary: str, version: str, **facts: object) -> Callable[[F], F]:
    """Registers a format: a function render(prompt, tokenizer) that returns the text, or (text, delimiter).

    Facts say what it is: kind (`completion`, `turns` or `object`), and functions in place of the defaults: write,
    read, stop, partial, ends_turn (see `slmbench.formats.Format`); special_tokens; template_of.
    """
    return _decorator("format", name, summary, version, facts)


def loader(name: str, *, summary: str, version: str) -> Callable[[F], F]:
    """Registers a loader: a function of (split, folder, **options) that yields a split's rows, dicts of the same keys.

    folder: that of the declaration. options: what the declaration's `loader.options` say.
    """
    return _decorator("loader", name, summary, version, {})


def engine(name: str, *, summary: str, version: str, **facts: object) -> Callable[[F], F]:
    """Registers an engine: a function (loaded, options, seed) that makes a `slmbench.engines.protocol.Engine`.

    Facts: options (which of `kv_budget` and `latency` it knows); auto_batch (the rows that `--batch auto` is, unless it
    finds them itself); needs (packages that it can't do without, as {"vllm>=0.32": "how to have it"}: their versions
    are part of a run's engine_version); apart (True for one that reads a model's files itself, "gguf" for one
    that reads a GGUF file, "served" for one that asks a server: `loaded.model` is then a
    `slmbench.models.ModelApart`, without weights).
    """
    return _decorator("engine", name, summary, version, facts)


def merge_method(name: str, *, summary: str, version: str, **facts: object) -> Callable[[F], F]:
    """Registers a way to merge the tensors of one name: a function of (tensors, base, weights, **parameters).

    tensors: of one shape, each in its own dtype and possibly a view of a file. base: None if there is none. weights: a
    float of each tensor. It returns a tensor of the same shape, best float32, or (tensor, dict of facts for the
    report). Every parameter has a default; `lambda_` is `lambda` in YAML. One that is called `generator` is handed a
    function of a model's index that begins that model's own torch.Generator anew, seeded by seed, tensor and index.

    Facts: needs_base; models (the fewest and the most, None for any, (1, None) unless told); linear (the result is a
    sum of the tensors' changes, each times a number that no tensor's content decides); average (the weights are
    divided by their sum, unless its parameter `normalize` is False); ranges (of parameters, as {"density": "(0, 1]"});
    space ("weights", or "adapters" for one that is handed `slmbench.merging.lora.Factors`); experimental.
    """
    return _decorator("merge_method", name, summary, version, facts)


def marked(namespace: Mapping[str, object], path: str, module: str, *, plugin: bool = True) -> list[Registered]:
    """Everything that functions in a module are marked as, those of other files that it imports included.

    path: its file; module: its name. slmbench's own functions that a plugin imports are none of its.
    """
    found = []
    named: dict[int, Callable[..., object]] = {id(one): one for one in namespace.values() if callable(one)}
    for value in named.values():
        home = str(getattr(value, "__module__", module))
        if home != module and (not plugin or home.startswith("slmbench.") or isinstance(value, type)):
            continue
        code = getattr(value, "__code__", None)
        line, own = getattr(code, "co_firstlineno", 0), path
        if home != module and code is not None and os.path.isfile(code.co_filename):
            own = code.co_filename  # Its file is what its results depend on.
        for kind, name, summary, version, facts in getattr(value, _MARK, ()):
            told = f"{version}-{source_sha256(own)[:12]}" if plugin else version
            found.append(Registered(kind, name, summary, told, own, line, value, facts, plugin))
    return found


class Refusal(NamedTuple):
    """(kind, name) of what a file would register and that can't be had, and why."""

    path: str
    names: frozenset[tuple[str, str]]
    error: SlmbenchError


class Registry:
    """Things by kind and name. Immutable; `joined` makes a larger one.

    refusals: what else would be there, and why it isn't.
    """

    def __init__(self, entries: Iterable[Registered] = (), refusals: Iterable[Refusal] = ()) -> None:
        """Raises DeclarationError if two have one name, with both places."""
        self.refusals = tuple(refusals)
        found: dict[tuple[str, str], Registered] = {}
        problems = []
        for entry in entries:
            other = found.setdefault((entry.kind, entry.name), entry)
            if other is not entry and (os.path.realpath(other.path), other.line) != (
                os.path.realpath(entry.path),
                entry.line,
            ):
                said = f"{entry.kind} {entry.name!r} is registered twice: here and in {other.where}; rename one"
                problems.append(Problem(shown(entry.path), entry.line, 1, said))
        if problems:
            raise DeclarationError(problems)
        self._found = found

    def __iter__(self) -> Iterator[Registered]:
        return iter(self._found.values())

    def joined(self, entries: Iterable[Registered]) -> Registry:
        """With more entries. Raises DeclarationError as the constructor does."""
        more = list(entries)
        return Registry([*self._found.values(), *more], self.refusals) if more else self

    def names(self, kind: str) -> list[str]:
        return [name for of, name in self._found if of == kind]

    def get(self, kind: str, name: str) -> Registered | None:
        """The one of that name, None without one. Raises the error of one that is refused."""
        for one in self.refusals:
            if (kind, name) in one.names:
                raise one.error
        return self._found.get((kind, name))


@cache
def own_entry(kind: str, name: str) -> Registered | None:
    """What slmbench itself registers of a kind and name, its file imported; None without one."""
    path = next((header.path for header in own_headers(kind) if header.name == name), None)
    if path is None:
        return None
    module = import_module(f"slmbench.{FOLDERS[kind].replace('/', '.')}.{os.path.basename(path)[:-3]}")
    return Registry(marked(vars(module), path, module.__name__, plugin=False)).get(kind, name)


def find(kind: str, name: str, plugins: Registry | None = None) -> Registered:
    """slmbench's own, else a plugin's. Raises UsageError with the nearest known name."""
    found = own_entry(kind, name) or (plugins.get(kind, name) if plugins is not None else None)
    if found is None:
        known = [*(header.name for header in own_headers(kind)), *(plugins.names(kind) if plugins is not None else ())]
        raise UsageError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")
    return found


def is_marked(function: object) -> bool:
    """Whether a decorator has marked it."""
    return bool(getattr(function, _MARK, ()))
