"""What of this machine a jail shows: the interpreter with its libraries, and of these nothing that others put there."""

from __future__ import annotations

import functools
import os
import stat
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from slmbench.sandbox._jail import BOX, DEVICES

FOLDER = os.path.dirname(os.path.abspath(__file__))
# A package `slmbench` with nothing but the sandbox in it: no other code of ours, and no site-packages, inside. Modules
# come through file 0, not from their place: that is a path of the host, and would be in all that is forked.
_BOOT = """
import marshal, os, sys, types
for name in ("slmbench", "slmbench.sandbox"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
def read():
    def exactly(size):
        parts = []
        while size and (part := os.read(0, min(size, 65536))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
    return exactly(int.from_bytes(exactly(4), "big"))
def run(name, code):
    module = sys.modules["slmbench.sandbox." + name] = types.ModuleType("slmbench.sandbox." + name)
    setattr(sys.modules["slmbench.sandbox"], name, module)
    exec(code, module.__dict__)
    return module
"""
# The helper has them by their text; what it compiles is handed on, so that no jail compiles it again.
HELPER = (
    _BOOT
    + """
import json
codes = [
    (name, compile(text, f"/sandbox/{name}.py", "exec", dont_inherit=True)) for name, text in json.loads(read())
]
for name, code in codes:
    module = run(name, code)
module.main(marshal.dumps(codes))
"""
)
INSIDE = (
    _BOOT
    + """
for name, code in marshal.loads(read()):
    module = run(name, code)
module.play_inside()
"""
)
# In the order in which they import each other.
_MODULES = ("_jail", "_wire", "_calls", "_examiner", "_inside", "_worker", "_host")


@frozen
class View:
    """binds: what is seen, read-only. masks: folders in it shown empty. hidden: files in it shown as /dev/null."""

    binds: tuple[str, ...]
    masks: tuple[str, ...]
    hidden: tuple[str, ...]


def interpreter(boot: str) -> list[str]:
    """The command of a Python that reads no site-packages and no folder of the user, and runs `boot`."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return [python, "-s", "-S", "-P", "-c", boot]


def sources() -> list[tuple[str, str]]:
    """(name, text) of the modules of a helper."""
    return [(name, Path(FOLDER, f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]


@functools.lru_cache
def view() -> View:
    """What this Python, and a venv's base, needs to see; looked up once a process, as it reads whole folders."""
    prefix = os.path.realpath(sys.base_prefix)
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix, "installed_base": sys.base_prefix}
    wanted = [os.path.realpath(sysconfig.get_path(name, vars=base)) for name in ("stdlib", "platstdlib")]
    wanted += [*_libraries(), "/nix/store", "/gnu/store", "/usr/share/zoneinfo"]
    # /usr as a prefix has everybody's data below it; other Pythons keep their shared libraries there.
    wanted += [] if prefix == "/usr" else [f"{prefix}/lib"]
    wanted.append(interpreter("")[0])
    binds: list[str] = []
    # A folder below a link is bound by its real name, and the link is made anew.
    for path in sorted({path for path in wanted if os.path.exists(path) and os.path.realpath(path) == path}):
        if not any(path.startswith(parent + "/") for parent in binds):
            binds.append(path)
    masks = _packages(binds, {*wanted[:2], "/usr/lib/python3", f"{prefix}/lib"})
    return View(tuple(binds), tuple(masks), tuple(_set_id_files(binds, masks)))


def _libraries() -> list[str]:
    """Where shared libraries are: of /usr/lib and /lib no more, where they have a folder of their own."""
    found = [f"/usr/lib/locale/{name}" for name in ("C.utf8", "C.UTF-8")] + ["/usr/lib64", "/lib64", "/usr/lib32"]
    machine = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    own = [f"{folder}/{machine}" for folder in ("/usr/lib", "/lib")]
    if any(os.path.exists(f"{folder}/libc.so.6") for folder in own):
        return [*found, *own]
    return [*found, "/usr/lib", "/lib"]


def _packages(binds: Sequence[str], folders: set[str]) -> list[str]:
    """Folders of installed packages, of any Python: they can hold the answers of a benchmark."""
    places = {Path(folder) for folder in folders} | {Path(bind) for bind in binds if "/store" not in bind}
    places |= {place for bind in binds for place in Path(bind).glob("python*") if place.is_dir()}
    masks = {str(place / name) for place in places for name in ("site-packages", "dist-packages")}
    inside = [path for path in masks if any(path.startswith(f"{bind}/") for bind in binds)]
    return sorted(path for path in inside if os.path.isdir(path) and not os.path.islink(path))


def _set_id_files(binds: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Files that run as somebody else. They can't in a jail, but tell what is installed, and of what age."""
    found, todo = [], [bind for bind in binds if "/store" not in bind]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue  # A file, or a folder that isn't readable, and isn't in a jail either.
        for entry in entries:
            if entry.is_symlink() or entry.path in masks:
                continue
            if entry.is_dir():
                todo.append(entry.path)
            elif entry.stat(follow_symlinks=False).st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(entry.path)
    return sorted(found)


def bubblewrap_command(bwrap: str, seen: View, box_bytes: int) -> list[str]:
    """bubblewrap's arguments up to the command that runs inside."""
    command = [bwrap, *"--unshare-pid --unshare-net --unshare-ipc --unshare-uts --hostname box".split()]
    command += "--die-with-parent --new-session --cap-drop ALL".split()
    if os.getuid() == 0:
        command += "--cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP".split()
    made = {"/"}
    for path in seen.binds:
        # Folders that bubblewrap makes by itself can be entered by their owner alone.
        for parent in reversed(Path(path).parents):
            if str(parent) not in made:
                made.add(str(parent))
                command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", path, path]
    for path in seen.masks:
        command += ["--perms", "0555", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
    for path in seen.hidden:
        command += ["--ro-bind", "/dev/null", path]
    for path in ("/lib", "/lib64"):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
    command += ["--perms", "0755", "--dir", "/dev"]
    for path in DEVICES:
        command += ["--dev-bind", path, path]
    # Named semaphores and shared memory are files of the box, and bounded with them.
    command += ["--symlink", BOX, "/dev/shm"]
    command += ["--perms", "1777", "--size", str(box_bytes), "--tmpfs", BOX, "--chdir", BOX]
    command += ["--remount-ro", "/"]
    # The loader's own cache is in /etc, which is not here.
    command += ["--setenv", "LD_LIBRARY_PATH", os.path.join(os.path.realpath(sys.base_prefix), "lib")]
    return command
