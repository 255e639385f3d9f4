"""Runs a page's blocks one after another in the current folder: `slmbench` in this process, other programs by bash."""

from __future__ import annotations

import glob
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from slmbench.cli import main
from tests.docs.blocks import Block, blocks_of, commands


def run_page(page: Path, setenv: Callable[[str, str], None], added: Mapping[str, str]) -> None:
    """Runs all blocks of a page. added: words at whose end more words are put, so that it takes less time.

    A block whose first line names a file is written there; one that says `# from FILE` has to be in that file.
    Raises AssertionError, with the place, for a command that ends with an error.
    """
    setenv("PWD", os.getcwd())
    told: dict[str, Any] = {}
    left = dict(added)
    for block in blocks_of(page):
        if quoted := re.match(r"# from (\S+)\n", block.text):
            assert block.language == "yaml"
            file = yaml.safe_load(Path(quoted[1]).read_text(encoding="utf-8"))
            said = yaml.safe_load(block.text)
            assert said == {key: file.get(key) for key in said}, f"{block.place}: not what {quoted[1]} says"
        elif block.path:
            Path(block.path).parent.mkdir(parents=True, exist_ok=True)
            Path(block.path).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec"), told)
        elif block.language == "sh":
            for command in commands(block.text):
                more = next((left.pop(words) for words in list(left) if words in command), "")
                run_command(block, f"{command} {more}", setenv)
    assert left == {}, f"{page.name} has no such commands"


def run_command(block: Block, command: str, setenv: Callable[[str, str], None]) -> None:
    """Runs a command of a block. The exit code of a gate is its verdict; any other but 0 is an error."""
    before, _, last = command.rpartition("|")
    words = shlex.split(os.path.expandvars(last), comments=True)
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        setenv(name, value)
    elif words[0] != "slmbench":
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        subprocess.run(["bash", "-eu", "-c", command], env=os.environ | {"PATH": path}, check=True)
    else:
        stdin = sys.stdin
        if before:
            done = subprocess.run(["bash", "-eu", "-c", before], stdout=subprocess.PIPE, text=True, check=True)
            sys.stdin = io.StringIO(done.stdout)
        words = [found for word in words[1:] for found in (sorted(glob.glob(word)) if "*" in word else [word])]
        words, to = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        try:
            with open(to, "w", encoding="utf-8") if to else nullcontext(sys.stdout) as out, redirect_stdout(out):
                code = main(words)
        finally:
            sys.stdin = stdin
        assert code in ((0, 1, 2) if "--fail-if" in words else (0,)), f"{block.place}: exit code {code}: {command}"
