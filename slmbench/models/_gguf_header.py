"""The head of a GGUF file: what it says of itself, and where its tensors are. Read within limits, without weights."""

from __future__ import annotations

import math
import mmap
import os
import struct
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.paths import shown
from slmbench.values import JsonObject

MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_LONGEST_TEXT = 16 * 2**20
_MOST_KEYS = 100_000
_MOST_ELEMENTS = 2_000_000
"""A vocabulary has a few hundred thousand; merges as many again."""
_MOST_TENSORS = 100_000
_DIMENSIONS = 4


@frozen
class GgufTensor:
    """shape: as torch has it, the widest step first. kind: ggml's number of the type that its numbers are packed in."""

    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@frozen
class GgufHead:
    """metadata: its keys and values; of a list how long it is. data_start: the byte where tensors begin."""

    path: str
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data_start: int
    size: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self) -> JsonObject:
        """What is said of the architecture's own settings, without its name in front."""
        prefix = f"{self.architecture}."
        return {key[len(prefix) :]: value for key, value in self.metadata.items() if key.startswith(prefix)}

    @property
    def numbers(self) -> int:
        return sum(tensor.numbers for tensor in self.tensors.values())


def read_gguf_head(path: str) -> GgufHead:
    """What a GGUF file says of itself. Raises UsageError for a file that is none, or whose head is cut or damaged."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            if file.read(4) != MAGIC:
                raise UsageError(f"{shown(path)} is not a GGUF file: it doesn't begin with GGUF{_instead(path, size)}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Reader(path, view).head()
    except OSError as error:
        raise UsageError(f"{shown(path)} can't be read: {error.strerror}") from error


def _instead(path: str, size: int) -> str:
    if size == 0:
        return "; it is empty"
    with open(path, "rb") as file:
        begin = file.read(64)
    if begin.startswith(b"version https://git-lfs"):
        return "; it is a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "; it is a web page, as of a download that asked for a login"
    return ""


class _Damaged(Exception):
    pass


class _Reader:
    """A place in a file that is read from front to back, never past its end."""

    def __init__(self, path: str, view: mmap.mmap) -> None:
        self.path, self.view, self.size, self.at = path, view, len(view), 4

    def head(self) -> GgufHead:
        try:
            return self._head()
        except (_Damaged, struct.error, UnicodeDecodeError) as error:
            what = str(error) if isinstance(error, _Damaged) else "something else stands where a value should be"
            raise UsageError(
                f"{shown(self.path)} is a damaged GGUF file: at byte {self.at:,} of {self.size:,}, {what}; fetch it "
                "again and compare its sha256 with that of where it is from"
            ) from None

    def _head(self) -> GgufHead:
        version, n_tensors, n_keys = self._take("IQQ")
        if version not in (2, 3):
            big = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
            said = "written for big-endian machines" if big else f"GGUF version {version}"
            raise UsageError(f"{shown(self.path)} is {said}; versions 2 and 3 of little-endian machines are read")
        self._limit(n_keys, _MOST_KEYS, "keys")
        self._limit(n_tensors, _MOST_TENSORS, "tensors")
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self._text()
            metadata[key] = self._value(*self._take("I"))
        tensors: dict[str, GgufTensor] = {}
        for _ in range(n_tensors):
            name = self._text()
            (dimensions,) = self._take("I")
            self._limit(dimensions, _DIMENSIONS, "dimensions")
            shape = self._take("Q" * dimensions)
            kind, offset = self._take("IQ")
            tensors[name] = GgufTensor(tuple(reversed(shape)), kind, offset)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise _Damaged(f"general.alignment is {alignment!r}")
        start = -(-self.at // alignment) * alignment
        return GgufHead(self.path, metadata, tensors, start, self.size)

    def _take(self, kinds: str) -> tuple[int, ...]:
        length = struct.calcsize(f"<{kinds}")
        if self.at + length > self.size:
            raise _Damaged("the file ends")
        values = struct.unpack_from(f"<{kinds}", self.view, self.at)
        self.at += length
        return values

    def _limit(self, n: int, most: int, what: str) -> None:
        if n > most:
            raise _Damaged(f"it speaks of {n:,} {what}, but at most {most:,} are read")

    def _text(self) -> str:
        (length,) = self._take("Q")
        self._limit(length, _LONGEST_TEXT, "bytes of a text")
        if self.at + length > self.size:
            raise _Damaged("the file ends inside a text")
        text = self.view[self.at : self.at + length].decode("utf-8")
        self.at += length
        return text

    def _value(self, kind: int) -> float | str:
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])[0]
        if kind == _TEXT:
            return self._text()
        if kind != _LIST:
            raise _Damaged(f"a value is of kind {kind}, which GGUF doesn't have")
        inner, n = self._take("IQ")
        self._limit(n, _MOST_ELEMENTS, "elements of a list")
        if inner in _SCALARS:
            length = n * struct.calcsize(_SCALARS[inner])
            if self.at + length > self.size:
                raise _Damaged("the file ends inside a list")
            self.at += length
        elif inner == _TEXT:
            for _ in range(n):
                (length,) = self._take("Q")
                if length > self.size - self.at:
                    raise _Damaged("the file ends inside a list of texts")
                self.at += length
        else:
            raise _Damaged(f"a list is of kind {inner}, which isn't read")
        return n
