"""A GGUF file on its way to the disk, tensor by tensor; it has its name only once it is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, sync_folder
from slmbench.values import Array


@frozen
class GgufPart:
    """A tensor that is to be written. shape: as torch has it. packing: gguf's name of its type, as F32 or Q8_0.

    make: its numbers in float32, packed while they are written, so that one tensor at a time is in memory.
    """

    name: str
    shape: tuple[int, ...]
    packing: str
    make: Callable[[], Array]


def write_gguf(path: str, architecture: str, head: Callable[[Any], None], parts: Sequence[GgufPart]) -> None:
    """Writes a GGUF file, whole or not at all.

    head: writes keys and values with gguf's writer, which it is given. Raises SlmbenchError where the disk is full or
    can't be written, and for numbers that the packing doesn't hold.
    """
    import gguf

    beside = os.path.join(os.path.dirname(path) or ".", f".{os.path.basename(path)}.{secrets.token_hex(6)}.tmp")
    writer = gguf.GGUFWriter(None, architecture)
    head(writer)
    for part in parts:
        writer.add_tensor_info(part.name, part.shape, _float32(), packed_bytes(part), _type(part.packing))
    try:
        with disk_errors(path), contextlib.closing(writer):
            writer.write_header_to_file(Path(beside))
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            (file,) = writer.fout
            writer.write_padding(file, file.tell())
            for part in parts:
                for chunk in _packed(part):
                    # Not by numpy's tofile, whose error doesn't say why the disk took no more.
                    file.write(memoryview(chunk).cast("B"))
                writer.write_padding(file, packed_bytes(part))
            file.flush()
            os.fsync(file.fileno())
        with disk_errors(path):
            os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    sync_folder(os.path.dirname(path) or ".")


def packed_bytes(part: GgufPart) -> int:
    """How many bytes a tensor takes in the file, padding aside."""
    import gguf

    block, width = gguf.GGML_QUANT_SIZES[_type(part.packing)]
    numbers = 1
    for side in part.shape:
        numbers *= side
    return int(numbers // block * width)


def _packed(part: GgufPart) -> Iterator[Array]:
    import gguf
    import numpy

    values = part.make()
    if values.shape != part.shape:
        raise SlmbenchError(f"{part.name} has shape {list(values.shape)} and not {list(part.shape)}")
    if part.packing == "F16":
        with numpy.errstate(over="ignore"):
            narrow = values.astype(numpy.float16)
        if not numpy.isfinite(narrow).all():
            raise SlmbenchError(
                f"{part.name} has a number beyond 65504, more than float16 holds; write bf16 or f32 instead"
            )
        yield numpy.ascontiguousarray(narrow)
        return
    # A few rows at a time: quantisers take several copies of what they are given.
    rows = values.reshape(-1, values.shape[-1])
    step = max(1, 2**22 // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        packed = gguf.quants.quantize(numpy.ascontiguousarray(rows[start : start + step]), _type(part.packing))
        yield numpy.ascontiguousarray(packed)


def _float32() -> Any:
    import numpy

    return numpy.dtype(numpy.float32)


def _type(packing: str) -> Any:
    import gguf

    return gguf.GGMLQuantizationType[packing]
