"""`merge.json`: what a merge says of itself, read by one strict model wherever it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from slmbench.foreign import Amount, Count, Limits, read_object
from slmbench.runs._part import CodePart, MergePart, Part, Sha256
from slmbench.runs._settings import PackingSettings, TrainedSettings
from slmbench.runs._training import TrainedBase, TrainedTask, TrainingRecord, read_training
from slmbench.runs._versions import AGAIN, MERGE, READS, WITHOUT, read_as, write_as
from slmbench.seal import check_seal, sealed

_LIMITS = Limits(bytes=200_000_000, surrogates=True)
_AGAIN = f"{AGAIN[MERGE]}, or {WITHOUT}"


class MergedFile(Part):
    """A file that was read or written.

    bytes: of it
    sha256: of it
    """

    bytes: Count
    sha256: Sha256


class MergedInput(Part):
    """One of what was merged.

    name: as weights call it
    path: where it was
    kind: model or adapter
    sha256: of an adapter, over its weights and its config; of a model, over the digests of its weights' files
    files: name -> a file of its weights
    weight: that it was given: a number, or a setting by layer or by tensor
    rank: of an adapter; null of a model
    method: how it was trained, if its training.json says so
    tasks: that it was trained on, if its training.json says so
    """

    name: str
    path: str
    kind: Literal["model", "adapter"]
    sha256: Sha256
    files: dict[str, MergedFile] = Field(default={})
    weight: Any = None
    rank: Count | None = None
    method: str | None = None
    tasks: list[str] | None = None


class MergedBase(Part):
    """What task vectors were taken from, and what adapters were put on.

    name: as it was called
    id: where it was from: a hub id, or the name
    location: the absolute path of a folder or GGUF file, or a hub id
    revision: commit hash of its files on the hub
    twin: whether it was a small random copy
    sha256: over the digests of its weights' files; null if they were not read
    files: name -> a file of its weights
    """

    name: str
    id: str
    location: str
    revision: str | None = None
    twin: bool = False
    sha256: Sha256 | None = None
    files: dict[str, MergedFile] = Field(default={})


class MergeRecord(Part):
    """A merge's record.

    schema: version of this layout
    name: of the result, its folder's
    result: model or lora
    method: that tensors were merged by
    method_version: of the method, and of its package if it is another one's
    inputs: what was merged
    base: what task vectors were taken from, and what adapters were put on; null if there was none
    weights: as they were asked for
    parameters: of the method, those that were not given included
    rank: of the LoRA that was written; null of a model
    dtype: of the weights that were written
    seed: of what is drawn
    identity_sha256: of all that makes the merge what it is; a merge that has the same is not repeated
    format: how the prompts of the inputs' trainings were written down; null if nothing says so, or if they differ
    base_weights_sha256: of the base's weights in memory, as the inputs' trainings have it; null of a model
    base_dtype: that these weights had in memory
    base_quantization: how these weights were packed, as nf4+double; null for whole ones
    base_packing: the same as it is asked for
    tensors: name -> what the method says of the tensor
    totals: the same over all tensors
    search: how weights or parameters were found, if they were searched
    files: name -> a file of the result
    sha256: of what came out: an adapter with its config, or a model's files of weights
    seconds: that the merge took
    ram_peak_bytes: peak resident memory of the process, pages of mapped files included
    notices: what a reader has to know
    ended: when it ended, UTC
    code: the slmbench that wrote it
    packages: package -> version
    hardware: processor, cores, threads, memory in bytes, GPU, system, Python
    record_sha256: of the other fields here
    """

    version: int = Field(default=READS[MERGE][-1], alias="schema", ge=READS[MERGE][0], le=READS[MERGE][-1])
    name: str
    result: Literal["model", "lora"]
    method: str
    method_version: str | None = None
    inputs: list[MergedInput] = Field(min_length=1)
    base: MergedBase | None = None
    weights: Any = None
    parameters: dict[str, Any] = Field(default={})
    rank: Count | None = None
    dtype: str | None = None
    seed: int = 0
    identity_sha256: Sha256
    format: str | None = None
    base_weights_sha256: Sha256 | None = None
    base_dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    base_quantization: str | None = None
    base_packing: PackingSettings | None = None
    tensors: dict[str, dict[str, Any]] = Field(default={})
    totals: dict[str, Any] = Field(default={})
    search: dict[str, Any] | None = None
    files: dict[str, MergedFile] = Field(default={})
    sha256: Sha256
    seconds: Amount | None = None
    ram_peak_bytes: Count | None = None
    notices: list[str] = Field(default=[])
    ended: str | None = None
    code: CodePart | None = None
    packages: dict[str, str] | None = None
    hardware: dict[str, Any] | None = None
    record_sha256: Sha256 | None = None

    @property
    def told(self) -> str:
        """In words, as `ties of icliniq, medquad`."""
        return f"{self.method} of {', '.join(one.name for one in self.inputs)}"

    def part(self) -> MergePart:
        """What a run's record says of it."""
        names = [one.name for one in self.inputs]
        return MergePart(method=self.method, inputs=names, identity_sha256=self.identity_sha256)

    @property
    def trained(self) -> TrainingRecord:
        """What an evaluation has to know of the trainings of its inputs, where they say it alike, and all their tasks.

        It has no recipe and no method, as it was merged; on a packed base the method is that of what was trained there.
        """
        base = None if self.base is None else TrainedBase(**self.base.model_dump(exclude={"sha256", "files"}))
        said: dict[str, Any] = {} if self.format is None else {"format": self.format}
        if self.base_packing is not None:
            said |= {"method": "qlora", "quantization": self.base_packing}
        return TrainingRecord(
            model=None if base is None else base.name,
            base=base,
            base_weights_sha256=self.base_weights_sha256,
            dtype=self.base_dtype,
            quantization=self.base_quantization,
            settings=TrainedSettings(**said),
            tasks={task: TrainedTask() for one in self.inputs for task in one.tasks or ()},
            sha256=self.sha256,
        )


def read_merge(folder: str | os.PathLike[str]) -> MergeRecord:
    """A folder's merge.json. Raises FileError with all that is wrong; FileNotFoundError if there is none."""
    path = os.path.join(folder, MERGE)
    record = read_object(path, _LIMITS, todo=_AGAIN)
    made = read_as(MergeRecord, record, MERGE, path, todo=_AGAIN)
    check_seal(record, path, todo=_AGAIN)
    return made


def trained_as(folder: str | os.PathLike[str]) -> TrainingRecord:
    """A folder's training.json; of what was merged, what the trainings of its inputs say alike.

    Raises FileError with all that is wrong; FileNotFoundError if it has neither.
    """
    try:
        return read_training(folder)
    except FileNotFoundError:
        return read_merge(folder).trained


def write_merge(folder: str | os.PathLike[str], record: Mapping[str, object]) -> None:
    """Writes a folder's merge.json, sealed. Raises FileError for a record that is none by `MergeRecord`."""
    write_as(MergeRecord, sealed(record), os.path.join(folder, MERGE))
