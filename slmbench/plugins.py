"""A task's `plugin.py`: loaded from its own folder, its hooks called behind a boundary that says whose fault it was."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from slmbench.errors import DeclarationError, HookError, Problem, did_you_mean
from slmbench.paths import shown

HOOKS = ("example", "generate")


@frozen
class Plugin:
    """The hooks of one plugin file.

    `example(row) -> dict`: fields to add to a row (or to put in place of its own) before templates see it.
    `generate(split, index, seed) -> dict`: row number index of a generated split.
    """

    path: str
    module: ModuleType

    def has(self, hook: str) -> bool:
        return callable(getattr(self.module, hook, None))

    def call(self, hook: str, *args: Any, row: int) -> dict[str, Any]:
        """Calls a hook for row number `row`. Raises HookError naming file, line, hook, error and row."""
        function: Callable[..., Any] = getattr(self.module, hook)
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
    """The plugin of a task's folder, or None where it has none. Raises DeclarationError or HookError."""
    given = os.path.join(folder, "plugin.py")
    if not os.path.lexists(given):
        return None
    try:
        path = inside_folder(folder, "plugin.py")
    except ValueError as error:
        raise DeclarationError([Problem(shown(given), 0, 0, str(error))]) from error
    name = "slmbench_plugin_" + hashlib.sha256(path.encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and pickles look their module up there.
    try:
        code = compile(Path(path).read_bytes(), given, "exec")  # No .pyc is left in the user's folder.
        exec(code, module.__dict__)
    except SyntaxError as error:
        del sys.modules[name]
        problem = Problem(shown(given), error.lineno or 0, error.offset or 0, f"Python syntax: {error.msg}")
        raise DeclarationError([problem]) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = _line_inside(given, error)
        raise HookError(f"{shown(given)}:{line}: while loading: {type(error).__name__}: {error}") from error
    unknown = [
        (key, value.__code__.co_firstlineno)
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == name
        if not key.startswith("_") and key not in HOOKS and hasattr(value, "__code__")
    ]
    near = [
        Problem(shown(given), line, 1, f"{key}() is no hook{did_you_mean(key, HOOKS)} Name a helper _{key}")
        for key, line in unknown
        if "did you mean" in did_you_mean(key, HOOKS)
    ]
    if near:
        raise DeclarationError(near)
    return Plugin(given, module)


def _line_inside(path: str, error: BaseException) -> int:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return frames[-1].lineno or 0 if frames else 0
