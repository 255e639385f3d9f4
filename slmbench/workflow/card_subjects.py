"""What a card is of: the adapter, model or run that a path means, and which runs are of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen
from pydantic import Field

from slmbench.cards import Kind
from slmbench.errors import UsageError
from slmbench.foreign import Foreign, read_model
from slmbench.leaderboard import LoadedRuns, ScoredRun
from slmbench.models import AdapterInfo, is_whole_model, read_adapter
from slmbench.paths import shown
from slmbench.runs import (
    MERGE,
    RECORD,
    TRAINING,
    MergeRecord,
    TrainingRecord,
    read_merge,
    read_record,
    read_training,
)

EXPORT = "export.json"
_SHELVES = ("adapters", "models")
_RUNS_ABOVE = 5
"""So many folders above an adapter's its runs are looked for: a matrix has it in trained/NAME/seed-0/adapters."""


class _ExportedFrom(Foreign):
    name: str
    sha256: str | None = None


class _ExportedModel(Foreign):
    name: str
    id: str
    revision: str | None = None


class _ExportedFile(Foreign):
    file: str
    kind: str | None = None
    sha256: str | None = None


class ExportRecord(Foreign):
    """What export.json says, as far as a card needs it. adapter: None if a whole trained model was exported.

    gguf: the files that were written, of such an export.
    """

    target: str
    model: _ExportedModel
    adapter: _ExportedFrom | None = None
    recipe: str | None = None
    tasks: list[str] = Field(default=[])
    format: str | None = None
    dtype: str | None = None
    notices: list[str] = Field(default=[])
    gguf: list[_ExportedFile] = Field(default=[])


@frozen
class Subject:
    """What a card is of. folder: None of a run whose adapter or model isn't beside it; place: what was given.

    run: that was given, or None.
    """

    kind: Kind
    name: str
    place: str
    folder: str | None
    info: AdapterInfo | None = None
    training: TrainingRecord | None = None
    merge: MergeRecord | None = None
    export: ExportRecord | None = None
    run: Path | None = None

    def mine(self, loaded: LoadedRuns) -> list[ScoredRun]:
        """The runs that are of it, by what their records say of its weights; oldest first."""
        return [run for run in loaded.runs if self._is_mine(run, loaded)]

    def _is_mine(self, run: ScoredRun, loaded: LoadedRuns) -> bool:
        adapter, model = run.record.get("adapter") or {}, run.record["model"]
        if self.kind == "adapter":
            return self.info is not None and adapter.get("sha256") == self.info.sha256
        if self.kind == "evaluation":
            given = next((one for one in loaded.runs if self.run is not None and _same(one.folder, self.run)), None)
            return given is not None and _who(run) == _who(given)
        written = (
            {one.sha256 for one in self.export.gguf if one.sha256 is not None} if self.export is not None else set()
        )
        if run.adapter is not None:
            return adapter.get("sha256") in written
        if self.kind == "merge" and self.merge is not None:
            return bool((model.get("merge") or {}).get("identity_sha256") == self.merge.identity_sha256)
        if self.kind == "model" and self.training is not None:
            digest = self.training.recipe_sha256
            return run.model == self.name and digest is not None and model.get("recipe_sha256") == digest
        if self.export is not None and self.export.gguf:
            return model.get("weights_sha256") in written
        return run.model == self.name

    def before_export(self, loaded: LoadedRuns) -> list[ScoredRun]:
        """The runs of the adapter that an export was made of, on its base."""
        digest = None if self.export is None or self.export.adapter is None else self.export.adapter.sha256
        if digest is None:
            return []
        return [run for run in loaded.runs if (run.record.get("adapter") or {}).get("sha256") == digest]

    def of_base(self, mine: ScoredRun, loaded: LoadedRuns, base: str | None) -> list[ScoredRun]:
        """The runs of the base that a run is compared with: the same weights under an adapter, else by name."""
        found = []
        for run in loaded.runs:
            # Of a file its own kind is all the quantisation there is; the base is whole.
            held = None if self.kind == "export" and mine.adapter is None else mine.quantization
            if run.adapter is not None or run.quantization != held:
                continue
            if mine.adapter is not None:
                digest = mine.record["model"].get("weights_sha256")
                if run.model == mine.model and run.record["model"].get("weights_sha256") == digest:
                    found.append(run)
            elif run.model == base and run.model != mine.model:
                found.append(run)
        return found


def subjects_of(place: str) -> list[Subject]:
    """What a path means. Raises UsageError if it means nothing that a card can be of; FileError for damaged records."""
    if not os.path.isdir(place):
        if os.path.basename(place) == RECORD and os.path.isfile(place):
            return subjects_of(os.path.dirname(place) or ".")
        there = "is a file" if os.path.exists(place) else "is not there"
        raise UsageError(
            f"{place} {there}; give an adapter's folder, a model's, a run's, or an output folder with them"
        )
    if (found := _of_folder(place)) is not None:
        return [found]
    if os.path.isfile(os.path.join(place, RECORD)):
        return [_of_run(place)]
    inside = [one for shelf in _SHELVES for one in _on_shelf(os.path.join(place, shelf))]
    if inside:
        return inside
    if os.path.isdir(os.path.join(place, "runs")):
        raise UsageError(
            f"{shown(place)} has runs, and neither adapters nor models; name one of its runs, as "
            f"{shown(os.path.join(place, 'runs', 'RUN'))}, and --out"
        )
    raise UsageError(
        f"{shown(place)} holds no adapter (adapter_config.json), no model with a record ({TRAINING}, {MERGE} or "
        f"{EXPORT}), and no run ({RECORD})"
    )


def _on_shelf(shelf: str) -> Iterator[Subject]:
    names = sorted(os.listdir(shelf)) if os.path.isdir(shelf) else []
    for name in names:
        path = os.path.join(shelf, name)
        if not name.startswith(".") and os.path.isdir(path) and (found := _of_folder(path)) is not None:
            yield found


def _of_folder(folder: str) -> Subject | None:
    name = os.path.basename(os.path.abspath(folder))
    if os.path.isfile(os.path.join(folder, "adapter_config.json")):
        info = read_adapter(folder)
        training = info.training if info.merge is None else None
        return Subject("adapter", name, folder, folder, info, training, info.merge)
    if os.path.isfile(os.path.join(folder, EXPORT)):
        export = read_model(os.path.join(folder, EXPORT), ExportRecord, todo="export it again")
        return Subject("export", name, folder, folder, export=export)
    if not is_whole_model(folder):
        return None
    if os.path.isfile(os.path.join(folder, MERGE)):
        return Subject("merge", name, folder, folder, merge=read_merge(folder))
    if os.path.isfile(os.path.join(folder, TRAINING)):
        return Subject("model", name, folder, folder, training=read_training(folder))
    return None


def _of_run(folder: str) -> Subject:
    """What a run is of: the adapter or model that lies beside the runs, or the run's scores alone."""
    record = read_record(Path(folder))
    adapter = record.get("adapter") or {}
    name = str(adapter.get("name") or record["model"]["name"])
    out = Path(folder).resolve().parent.parent
    run = Path(folder)
    # A name from a record leads nowhere else.
    if name == os.path.basename(name) and name not in ("", ".", "..") and "\0" not in name:
        for shelf in _SHELVES:
            path = str(out / shelf / name)
            if (found := _of_folder(path) if os.path.isdir(path) else None) is None:
                continue
            if adapter and (found.info is None or found.info.sha256 != adapter.get("sha256")):
                continue  # Another one by now.
            if not adapter and found.kind == "adapter":
                continue
            return found
    return Subject("evaluation", name, folder, None, run=run)


def runs_near(subject: Subject) -> str | None:
    """The output folder that has the runs of what lies in it; None if there is none."""
    if subject.run is not None:
        parent = subject.run.resolve().parent
        return str(parent.parent if parent.name == "runs" else parent)
    start = Path(subject.folder or subject.place).resolve()
    for above in list(start.parents)[:_RUNS_ABOVE]:
        runs = above / "runs"
        if runs.is_dir() and any(runs.iterdir()):
            return str(above)
    return None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _who(run: ScoredRun) -> Sequence[object]:
    adapter, model = run.record.get("adapter") or {}, run.record["model"]
    return (run.model, run.quantization, model.get("weights_sha256"), adapter.get("name"), adapter.get("sha256"))
