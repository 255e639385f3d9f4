"""What installed packages bring, found through their entry points without importing or executing any of them."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

GROUP = "slmbench.tasks"
PLUGINS = "slmbench.plugins"
_MAX_BYTES = 1_000_000


class Brought(NamedTuple):
    """What one entry point of a package leads to. notice: why it brings nothing, '' where it does.

    folders: each holds `tasks/` or `registry/`, or task folders, or is a task's folder itself.
    """

    package: str
    version: str
    entry: str
    folders: list[str]
    notice: str = ""

    def __str__(self) -> str:
        """The notice for a person: which package, which entry point, and why."""
        return f"package {self.package} {self.version}: entry point {self.entry!r} of {GROUP} {self.notice}"


class PluginModule(NamedTuple):
    """A module that a package registers metrics, formats or loaders in. path: '' where it leads to no file."""

    module: str
    path: str
    package: str
    version: str


def brought() -> list[Brought]:
    """What the entry points of all installed packages lead to, broken ones included, in the order of `sys.path`."""
    return [_located(name, version, entry) for name, version, entry in _entry_points(GROUP)]


def plugin_modules() -> list[PluginModule]:
    """The modules that entry points of `slmbench.plugins` name, found without running one."""
    found = []
    for package, version, entry in _entry_points(PLUGINS):
        module = entry.partition("=")[2].partition("[")[0].partition(":")[0].strip()
        found.append(PluginModule(module, _module_file(module), package, version))
    return list(dict.fromkeys(found))


def _module_file(module: str) -> str:
    top, *rest = module.split(".")
    for place in _places(top) or []:
        stem = os.path.join(place, *rest)
        for path in (f"{stem}.py" if rest else "", os.path.join(stem, "__init__.py")):
            if path and os.path.isfile(path):
                return path
    for folder in sys.path if not rest else ():
        if os.path.isfile(path := os.path.join(folder or ".", f"{top}.py")):
            return path
    return ""


def _entry_points(group: str) -> list[tuple[str, str, str]]:
    """(package, version, entry) of every installed package's entries in a group."""
    found: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as children:
                metadata = sorted(child.path for child in children if child.name.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue
        for path in metadata:
            text = _read(os.path.join(path, "entry_points.txt"))
            if text is None or f"[{group}]" not in text or os.path.realpath(path) in seen:
                continue
            seen.add(os.path.realpath(path))
            name, version = _name_of(path)
            found += [(name, version, entry) for entry in _entries(text, group)]
    return found


def package_of(path: str) -> tuple[str, str] | None:
    """(name, version) of the installed package that brings a declaration's file; None for one that none brings."""
    real = os.path.realpath(path)
    for one in brought():
        for folder in one.folders:
            if real.startswith(os.path.realpath(folder) + os.sep):
                return one.package, one.version
    return None


def _entries(text: str, group: str) -> list[str]:
    entries, inside = [], False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and line and line[0] not in "#;":
            entries.append(line)
    return entries


def _located(package: str, version: str, entry: str) -> Brought:
    value = entry.partition("=")[2].partition("[")[0].strip()
    module, _, attribute = (part.strip() for part in value.partition(":"))
    if not module or not all(part.isidentifier() for part in module.split(".")):
        return Brought(
            package, version, entry, [], "names no package; write `NAME = package` or `NAME = package.folder`"
        )
    top, *rest = module.split(".")
    places = _places(top)
    if places is None:
        return Brought(package, version, entry, [], f"leads nowhere: there is no package {top!r}; reinstall it")
    if not places:
        why = f"names {top!r}, a module of one file; task folders lie in a package, so name one"
        return Brought(package, version, entry, [], why)
    folders = [folder for place in places if os.path.isdir(folder := os.path.join(place, *rest))]
    # `package:tasks` can only mean the folder of that name: what a package's own code makes is never run for this.
    if attribute:
        inner = [at for folder in folders if os.path.isdir(at := os.path.join(folder, *attribute.split(".")))]
        folders = inner or folders
    if not folders:
        return Brought(package, version, entry, [], f"leads to no folder {'/'.join(rest)!r} in {top!r}; reinstall it")
    bringing = [folder for folder in folders if _brings(folder)]
    if not bringing:
        code = f"; `:{attribute}` is code, which is not run to find tasks" if attribute else ""
        why = f"leads to {folders[0]}, which holds no task: neither tasks/ nor registry/ nor a folder with task.yaml"
        return Brought(package, version, entry, [], why + code)
    return Brought(package, version, entry, bringing)


def _brings(folder: str) -> bool:
    if any(os.path.isdir(os.path.join(folder, name)) for name in ("tasks", "registry")):
        return True
    if os.path.isfile(os.path.join(folder, "task.yaml")):
        return True
    try:
        with os.scandir(folder) as children:
            return any(os.path.isfile(os.path.join(child.path, "task.yaml")) for child in children)
    except OSError:
        return False


def _places(top: str) -> list[str] | None:
    """The folders of a top-level package; [] for a module of one file, None if there is neither."""
    from importlib.machinery import PathFinder

    is_module = False
    for finder in [PathFinder, *sys.meta_path]:  # An editable install brings a finder of its own.
        try:
            spec = finder.find_spec(top, None) if hasattr(finder, "find_spec") else None
            places = list(spec.submodule_search_locations or []) if spec is not None else []
        except Exception:  # Another package's finder: what it can't find is not there.
            continue
        if places:
            return places
        is_module = is_module or spec is not None
    return [] if is_module else None


def _name_of(metadata: str) -> tuple[str, str]:
    name, _, version = os.path.basename(metadata).rpartition(".")[0].partition("-")
    found = {"name": name, "version": version or "unknown"}
    text = _read(os.path.join(metadata, "METADATA")) or _read(os.path.join(metadata, "PKG-INFO")) or ""
    for line in text.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and key.lower() in found and value.strip():
            found[key.lower()] = value.strip()
    return found["name"], found["version"]


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_BYTES)
    except (OSError, UnicodeDecodeError):
        return None
