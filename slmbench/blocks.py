"""Formats that are declared as data: `registry/formats/NAME.yaml`, blocks of text around question and answer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from slmbench.errors import DeclarationError, Problem, UsageError
from slmbench.headers import Header, own_headers
from slmbench.registry import Registered
from slmbench.schema import BlocksSpec, parse
from slmbench.templates import Template, TemplateFault
from slmbench.values import Prompt, Shot, Tokenizer
from slmbench.yamlfile import Document, read_yaml

_PROBE = "a"
_KNOWN = {"system": ("system",), "prompt": ("user",)}


def blocks_of(path: str) -> tuple[str, BlocksSpec]:
    """(name, declaration) of a format's file. Raises DeclarationError with all that is wrong with it."""
    document = read_yaml(path)
    spec = parse(BlocksSpec, document)
    name = os.path.basename(path)[: -len(".yaml")]
    problems = list(_problems(name, spec, document))
    if problems:
        raise DeclarationError(problems)
    return name, spec


def _problems(name: str, spec: BlocksSpec, document: Document) -> list[Problem]:
    found = []
    for header in own_headers("format"):
        if header.name == name:
            said = f"format {name!r} is slmbench's own ({os.path.basename(header.path)}); rename the file"
            found.append(document.problem((), said))
    for key, names in _KNOWN.items():
        try:
            named = Template(getattr(spec, key)).names
        except TemplateFault as fault:
            found.append(document.problem((key,), f"{key}: {fault}"))
            continue
        if set(named) != set(names):
            told = f"{key} names {', '.join(sorted(named)) or 'nothing'}, and has to name {{{{ {names[0]} }}}} alone"
            found.append(document.problem((key,), told))
    return found


@lru_cache(maxsize=64)
def _entry(path: str, stamp: int) -> Registered:
    name, spec = blocks_of(path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    facts = {"kind": spec.kind, "ends_turn": partial(_ends_turn, spec.end), "stop": partial(_stop, tuple(spec.stop))}
    version = f"{spec.version}-{digest[:12]}"
    return Registered("format", name, spec.summary, version, path, 1, renderer(spec), facts, True)


def block_format(path: str) -> Registered:
    """The format that a file declares, as a plugin would register it. Raises DeclarationError."""
    return _entry(path, os.stat(path).st_mtime_ns)


def block_header(path: str, summary: str) -> Header:
    """The same as `slmbench list` shows it, the file unread."""
    return Header("format", os.path.basename(path)[: -len(".yaml")], summary, "", path, 1)


def renderer(spec: BlocksSpec) -> Callable[[Prompt, Tokenizer], tuple[str, str]]:
    """render(prompt, tokenizer) -> (text, delimiter): the blocks of the shots, and the question's with nothing behind.

    A task's prefix opens the answer, in shots and in the question alike.
    """
    system, block = Template(spec.system), Template(spec.prompt)

    def opened(user: str, prefix: str) -> str:
        return block.render({"user": user}) + prefix

    def of_shot(shot: Shot, prompt: Prompt) -> str:
        prefix = prompt.prefix if shot.prefix is None else shot.prefix
        asked = opened(shot.user, prefix) + (prompt.delimiter if prefix else "")
        return asked + shot.target.text + spec.end + spec.between

    def render(prompt: Prompt, tokenizer: Tokenizer) -> tuple[str, str]:
        before = system.render({"system": prompt.system}) if prompt.system else ""
        text = before + "".join(of_shot(shot, prompt) for shot in prompt.shots) + opened(prompt.user, prompt.prefix)
        return text, prompt.delimiter if prompt.prefix else ""

    return render


def _ends_turn(end: str, tokenizer: Tokenizer) -> list[int]:
    """The end mark's ids as they are behind an answer, and EOS. Raises UsageError if there is neither."""
    eos = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    if not end and not eos:
        raise UsageError("the tokenizer has no EOS token, and the format no end mark, so no answer would ever end")
    # Alone, a SentencePiece tokenizer would spell it with a blank before it.
    alone = list(tokenizer.encode(_PROBE, add_special_tokens=False))
    joint = list(tokenizer.encode(_PROBE + end, add_special_tokens=False))
    closing = joint[len(alone) :] if joint[: len(alone)] == alone else tokenizer.encode(end, add_special_tokens=False)
    return [*map(int, closing), *eos]


def _stop(own: Sequence[str], declared: Sequence[str]) -> list[str]:
    return [*own, *declared]
