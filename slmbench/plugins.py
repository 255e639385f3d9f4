"""A task's `plugin.py`: loaded from its own folder, its hooks called behind a boundary that says whose fault it was."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from attrs import frozen

from slmbench.blocks import block_format, block_header
from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import DeclarationError, HookError, Problem, SlmbenchError, did_you_mean
from slmbench.headers import KINDS, headers, imports_of, no_python, own_headers
from slmbench.installed import PluginModule
from slmbench.paths import package_dir, shown
from slmbench.registry import Refusal, Registered, Registry, is_marked, marked
from slmbench.values import JsonObject

HOOKS = ("example", "generate")


@frozen
class Plugin:
    """The hooks of one plugin file.

    `example(row) -> dict`: fields to add to a row (or to put in place of its own) before templates see it.
    `generate(split, index, seed) -> dict`: row number index of a generated split.
    registered: the metrics, formats and loaders that it brings for its task. sha256: of the file's bytes.
    """

    path: str
    module: ModuleType
    registered: tuple[Registered, ...] = ()
    sha256: str = ""

    def has(self, hook: str) -> bool:
        return callable(getattr(self.module, hook, None))

    def call(self, hook: str, *args: object, row: int) -> JsonObject:
        """Calls a hook for row number `row`. Raises HookError naming file, line, hook, error and row."""
        function: Callable[..., object] = getattr(self.module, hook)
        try:
            made = function(*args)
        except (Exception, SystemExit) as error:  # Any error of a plugin's is the plugin's; KeyboardInterrupt passes.
            line = _line_inside(self.path, error)
            said = f"{type(error).__name__} {error}".rstrip()
            raise HookError(f"{shown(self.path)}:{line}: {hook}(): {said} (row {row})") from error
        if not isinstance(made, dict) or not all(isinstance(key, str) for key in made):
            line = function.__code__.co_firstlineno if hasattr(function, "__code__") else 1
            got = type(made).__name__
            message = f"{shown(self.path)}:{line}: {hook}(): expected a dict with text keys, got {got} (row {row})"
            raise HookError(message)
        return made


def inside_folder(folder: str, name: str) -> str:
    """The real path of a file that a declaration names, which must lie in the folder. Raises ValueError."""
    if os.path.isabs(name):
        raise ValueError(f"{name!r} is an absolute path; name a file inside {shown(folder)}")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(folder, name))
    if os.path.commonpath([root, path]) != root:
        raise ValueError(f"{name!r} leads out of {shown(folder)}; name a file inside it")
    return path


def load_plugin(folder: str) -> Plugin | None:
    """The plugin of a task's folder, or None if it has none. Raises DeclarationError or HookError."""
    given = os.path.join(folder, "plugin.py")
    if not os.path.lexists(given):
        return None
    try:
        path = inside_folder(folder, "plugin.py")
    except ValueError as error:
        raise DeclarationError([Problem(shown(given), 0, 0, str(error))]) from error
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    module = _executed(path, given)
    unknown = [
        (key, value.__code__.co_firstlineno)
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
        if not key.startswith("_") and key not in HOOKS and hasattr(value, "__code__") and not is_marked(value)
    ]
    near = [
        Problem(shown(given), line, 1, f"{key}() is not a hook{did_you_mean(key, HOOKS)} Name a helper _{key}")
        for key, line in unknown
        if "did you mean" in did_you_mean(key, HOOKS)
    ]
    if near:
        raise DeclarationError(near)
    return Plugin(given, module, tuple(_own(module, given)), sha256)


def load_plugins(catalog: Catalog) -> Registry:
    """What the catalog's own plugin files and installed packages register; runs them, each once. And formats of YAML.

    One that fails, is not Python, or has a name that is there already is said on stderr, and is in `refusals`: it stops
    what needs its names, and nothing else.
    """
    declared = catalog.files("formats").values()
    there = (*declared, *catalog.plugin_files(), *(one.path for one in catalog.plugin_modules))
    stamps = tuple((path, os.stat(path).st_mtime_ns) for path in there if os.path.isfile(path))
    return _registry(stamps, tuple(catalog.plugin_modules))


@lru_cache(maxsize=16)
def _registry(files: tuple[tuple[str, int], ...], modules: tuple[PluginModule, ...]) -> Registry:
    of_packages = {one.path: one for one in modules}
    good = Registry()
    refusals = []
    for path, _ in files:
        try:
            package = of_packages.get(path)
            if path.endswith(".yaml"):
                good = good.joined([block_format(path)])
                continue
            module = _imported(package) if package is not None else _executed(os.path.realpath(path), path)
            good = good.joined(_own(module, path))
        except SlmbenchError as error:
            *first, last = str(error).splitlines()
            for line in first:
                say(f"warning: {line}")
            say(f"warning: {last}; what {shown(path)} registers can't be used")
            promised = [block_header(path, "")] if path.endswith(".yaml") else headers(path)
            names = frozenset((header.kind, header.name) for header in promised)
            refusals.append(Refusal(path, names, error))
    return Registry(good, refusals)


def _imported(one: PluginModule) -> ModuleType:
    """The module that a package's entry point names. Raises HookError."""
    try:
        return importlib.import_module(one.module)
    except (Exception, SystemExit) as error:
        said = f"package {one.package} {one.version}: {one.module} fails while loading"
        raise HookError(f"{said}: {type(error).__name__}: {error}") from error


def _own(module: ModuleType, path: str) -> list[Registered]:
    """What a module registers. Raises DeclarationError for a name that slmbench itself has."""
    found = marked(vars(module), path, module.__name__)
    taken = {(kind, header.name): header for kind in KINDS for header in own_headers(kind)}
    problems = [
        Problem(
            shown(path),
            entry.line,
            1,
            f"{entry.kind} {entry.name!r} is registered twice: here and in slmbench's own "
            f"{os.path.relpath(taken[entry.kind, entry.name].path, os.path.dirname(package_dir()))}; rename yours",
        )
        for entry in found
        if (entry.kind, entry.name) in taken
    ]
    if problems:
        raise DeclarationError(problems)
    return found


def _executed(path: str, given: str) -> ModuleType:
    """The module of a file, run. given: its path as it is shown. Raises DeclarationError or HookError.

    A plugin's file is one file: what it would import from beside it would be in no digest.
    """
    beside = {name: line for name, line in imports_of(path) if _is_beside(path, name)}
    if beside:
        said = "imports {0!r} from beside it, which no digest would see; write it here, or make a package of both"
        raise DeclarationError([Problem(shown(given), line, 1, said.format(name)) for name, line in beside.items()])
    name = "slmbench_plugin_" + hashlib.sha256(path.encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and pickles look their module up there.
    try:
        # No .pyc is left in the user's folder.
        code = compile(Path(path).read_bytes(), given, "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except SyntaxError as error:
        del sys.modules[name]
        raise DeclarationError([no_python(given, error)]) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = _line_inside(given, error)
        raise HookError(f"{shown(given)}:{line}: while loading: {type(error).__name__}: {error}") from error
    return module


def _is_beside(path: str, name: str) -> bool:
    """Whether a name that a file imports is relative, or that of a file beside it."""
    top = name.partition(".")[0]
    stem = os.path.join(os.path.dirname(path), top)
    there = os.path.isfile(f"{stem}.py") or os.path.isfile(os.path.join(stem, "__init__.py"))
    return not top or (there and top not in sys.stdlib_module_names)


def _line_inside(path: str, error: BaseException) -> int:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return frames[-1].lineno or 0 if frames else 0
