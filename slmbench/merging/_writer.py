"""safetensors files written a tensor at a time: headers first, as every offset is known before any number is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from types import TracebackType
from typing import IO

from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, write_json
from slmbench.merging._checkpoints import DTYPES, chunks
from slmbench.values import Tensor

SHARD_BYTES = 4 * 10**9
_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}


class ModelWriter:
    """Writes `model.safetensors`, or shards with their index, into a folder. Use `with`, then `write` for every tensor.

    heads: name -> (dtype as safetensors names it, shape), in the order in which they will come.
    """

    def __init__(self, folder: str, heads: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self.folder, self.heads = folder, dict(heads)
        self.files = _shared_out(self.heads, SHARD_BYTES)
        self._order = iter(self.heads)
        self._file: IO[bytes] | None = None
        self._path = ""

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(_bytes(*head) for head in self.heads.values())

    def write(self, name: str, tensor: Tensor) -> None:
        """The next tensor, which is cast to its dtype. Raises SlmbenchError for a full disk, or float16's overflow."""
        import torch

        assert name == next(self._order)
        path = os.path.join(self.folder, self.files[name])
        with disk_errors(path):
            if path != self._path:
                self._finish()
                self._begin(path)
            assert self._file is not None
            dtype = getattr(torch, DTYPES[self.heads[name][0]])
            for part in chunks(tensor):
                cast = part.to(dtype).contiguous()
                if dtype == torch.float16 and part.dtype != dtype and not bool(torch.isfinite(cast).all()):
                    raise SlmbenchError(f"{name} has a weight beyond 65504, more than float16 holds; use bfloat16")
                _write_all(self._file, cast.view(torch.uint8).numpy().data)

    def _begin(self, path: str) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at = 0
        for name, file in self.files.items():
            if file == os.path.basename(path):
                dtype, shape = self.heads[name]
                end = at + _bytes(dtype, shape)
                header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
                at = end
        data = json.dumps(header, separators=(",", ":")).encode()
        data += b" " * (-len(data) % 8)
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  (closed by `_finish`)
        self._path = path
        _write_all(self._file, len(data).to_bytes(8, "little") + data)

    def _finish(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def __enter__(self) -> ModelWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            if self._file is not None:
                self._file.close()
            return
        assert next(self._order, None) is None
        with disk_errors(self._path or self.folder):
            self._finish()
        if len(set(self.files.values())) > 1:
            index = {"metadata": {"total_size": self.bytes}, "weight_map": dict(sorted(self.files.items()))}
            write_json(os.path.join(self.folder, "model.safetensors.index.json"), index)


def _write_all(file: IO[bytes], data: object) -> None:
    view = memoryview(data)  # type: ignore[arg-type]
    while view:
        view = view[file.write(view) :]


def _shared_out(heads: Mapping[str, tuple[str, tuple[int, ...]]], most: int) -> dict[str, str]:
    """Tensor -> its file."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, head in heads.items():
        size = _bytes(*head)
        if shards[-1] and filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return dict.fromkeys(heads, "model.safetensors")
    return {
        name: f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        for number, names in enumerate(shards, 1)
        for name in names
    }


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * _BITS[dtype] // 8
