"""Name -> declaration, over the bundled files, `SLMBENCH_PATH` and installed packages. Reads headers, runs nothing.

`slmbench list` imports this module and little else: what is imported inside functions here is not needed by each list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from slmbench import paths
from slmbench.errors import DeclarationError, Problem, UsageError, did_you_mean
from slmbench.headers import KINDS as REGISTERED
from slmbench.headers import Header, headers, own_headers
from slmbench.installed import PluginModule

CODE_KINDS = {plural: kind for kind, plural in REGISTERED.items()}
KINDS = ("tasks", "models", "datasets", "recipes", "suites", *CODE_KINDS)
FILE_KINDS = ("models", "datasets", "recipes", "suites")


class Entry(NamedTuple):
    """A thing that has a name. path: its YAML file; of code the plugin's file, '' of what slmbench has itself."""

    kind: str
    name: str
    path: str
    summary: str


class Catalog:
    """The declarations below some folders.

    A root holds `tasks/` and `registry/`, or task folders directly, or is a task's folder. installed: roots that
    packages bring. They give way: of a name that is there already, theirs is left out, and said. plugin_modules: what
    packages register metrics, formats and loaders in.
    """

    def __init__(
        self, roots: list[str], installed: list[str] | None = None, plugin_modules: Sequence[PluginModule] = ()
    ) -> None:
        self.roots = roots
        self.installed = installed or []
        self.plugin_modules = tuple(plugin_modules)

    def plugin_files(self) -> list[str]:
        """The files `plugins/*.py` of the roots: what they register is there for all tasks."""
        return [path for root in self.roots for path in sorted(_files(os.path.join(root, "plugins"), ".py"))]

    def headers(self, kind: str) -> list[Header]:
        """What plugins register of a kind, by their text alone: of roots, packages, and tasks, of each for itself.

        Formats that are declared as data stand before them.
        """
        tasks = [os.path.join(os.path.dirname(path), "plugin.py") for path in self.files("tasks").values()]
        paths_there = [*self.plugin_files(), *(one.path for one in self.plugin_modules if one.path), *tasks]
        declared = self.files("formats") if kind == "format" else {}
        found = [Header(kind, name, summary_of(path), "", path, 1) for name, path in declared.items()]
        return found + [header for path in paths_there for header in headers(path) if header.kind == kind]

    def origin(self, path: str) -> str:
        """Whose a registered thing is, for a person, by its file; '' stands for slmbench's own."""
        package = next((one for one in self.plugin_modules if one.path == path), None)
        if package is not None:
            return f"package {package.package} {package.version}"
        bundled = os.path.join(paths.bundled_root(), "")
        return "slmbench" if not path or path.startswith(bundled) else paths.shown(path)

    def files(self, kind: str) -> dict[str, str]:
        """name -> YAML file, sorted by name. Raises DeclarationError if a name is defined twice."""
        found: dict[str, str] = {}
        real: dict[str, str] = {}
        problems: list[Problem] = []
        walked = [(path, False) for path in self._walk(kind, self.roots)]
        walked += [(path, True) for path in self._walk(kind, self.installed)]
        for path, installed in walked:
            name = os.path.basename(os.path.dirname(path)) if kind == "tasks" else os.path.basename(path)[:-5]
            if name not in found or (
                kind == "datasets" and not installed and _replaces(path) and not _replaces(found[name])
            ):
                found[name] = path
            elif real.setdefault(found[name], os.path.realpath(found[name])) != os.path.realpath(path):
                if installed:
                    _say_once(f"{kind[:-1]} {name!r} of {path} is left out: {found[name]} has that name already")
                    continue
                way = ", or add `replaces: true` to yours" if kind == "datasets" else ""
                message = (
                    f"{kind[:-1]} {name!r} is defined twice: here and in {paths.shown(found[name])}; rename one{way}"
                )
                problems.append(Problem(paths.shown(path), 0, 0, message))
        if problems:
            raise DeclarationError(problems)
        return dict(sorted(found.items()))

    def replaced(self, kind: str, name: str) -> str | None:
        """The file of a name that another one stands in for, or None if none does."""
        everywhere = [*self.roots, *self.installed]
        there = [path for path in self._walk(kind, everywhere) if os.path.basename(path) == f"{name}.yaml"]
        originals = [path for path in there if not _replaces(path)] if len(there) > 1 else []
        return originals[0] if originals else None

    def entries(self, kind: str) -> list[Entry]:
        """Everything of a kind with its one-line summary, by headers alone."""
        if kind in CODE_KINDS:
            own = [Entry(kind, one.name, "", one.summary) for one in own_headers(CODE_KINDS[kind])]
            own.sort(key=lambda entry: (entry.name != "plain", entry.name))
            return own + [Entry(kind, one.name, one.path, one.summary) for one in self.headers(CODE_KINDS[kind])]
        if kind not in KINDS:
            raise UsageError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}")
        return [Entry(kind, name, path, summary_of(path)) for name, path in self.files(kind).items()]

    def find(self, kind: str, name: str) -> str:
        """The YAML file of a name. Raises UsageError with the nearest known name."""
        files = self.files(kind)
        if name not in files:
            raise UsageError(f"unknown {kind[:-1]} {name!r}{did_you_mean(name, files)}")
        return files[name]

    def _walk(self, kind: str, roots: list[str]) -> list[str]:
        found: list[str] = []
        if kind == "tasks":
            for root in roots:
                inner, own = os.path.join(root, "tasks"), os.path.join(root, "task.yaml")
                found += [own] if os.path.isfile(own) else []
                found += _task_files(inner if os.path.isdir(inner) else root)
        elif kind in (*FILE_KINDS, "formats"):
            for root in roots:
                found += _yaml_files(os.path.join(root, "registry", kind))
        else:
            raise UsageError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}")
        return found


def default_catalog() -> Catalog:
    """The bundled declarations, those of `SLMBENCH_PATH`, and those of installed packages.

    A package whose entry point is broken is said on stderr, and hides nothing else. Raises UsageError.
    """
    roots = [paths.bundled_root()]
    for root in paths.user_roots():
        if not os.path.isdir(root):
            raise UsageError(f"SLMBENCH_PATH names {root!r}, which is not a folder")
        roots.append(root)
    from slmbench.installed import brought, plugin_modules

    installed: list[str] = []
    for one in brought():
        installed += one.folders
        if one.notice:
            _say_once(str(one))
    modules = plugin_modules()
    for module in modules:
        if not module.path:
            who = f"package {module.package} {module.version}: entry point {module.module!r} of slmbench.plugins"
            _say_once(f"{who} leads to no module; reinstall it")
    return Catalog(roots, list(dict.fromkeys(installed)), [module for module in modules if module.path])


@lru_cache
def _say_once(text: str) -> None:
    # A catalog is made anew wherever a name is looked up, and one telling is enough.
    from slmbench.console import say

    say(f"warning: {text}")


def _replaces(path: str) -> bool:
    """Whether a data set's declaration says that it stands in for the bundled one of its name."""
    # Asked only if a name is there twice, so that `list` seldom pays for YAML.
    from slmbench.yamlfile import read_yaml

    try:
        data = read_yaml(path).data
    except DeclarationError:
        return False
    return isinstance(data, dict) and data.get("replaces") is True


def summary_of(path: str) -> str:
    """The `summary:` of a YAML file as one line, read no further than to it where it is there; else what is wrong."""
    from slmbench.yamlfile import read_text, read_yaml

    try:
        summary = read_text(path, "summary")
        if summary is None:
            data = read_yaml(path).data
            summary = data.get("summary") if isinstance(data, dict) else None
    except DeclarationError as error:
        return f"(broken: {error.problems[0]})"
    return " ".join(summary.split()) if isinstance(summary, str) else "(no summary)"


def _task_files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as children:
            names = [child.path for child in children if not child.name.startswith(".")]
    except OSError:
        return []
    return [path for path in (os.path.join(name, "task.yaml") for name in names) if os.path.isfile(path)]


def _yaml_files(folder: str) -> list[str]:
    return _files(folder, ".yaml")


def _files(folder: str, ending: str) -> list[str]:
    try:
        with os.scandir(folder) as children:
            return [child.path for child in children if child.name.endswith(ending) and child.name[0] not in "._"]
    except OSError:
        return []
