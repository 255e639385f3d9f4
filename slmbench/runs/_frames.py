"""Runs and their samples as tables: Arrow, pandas, Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from slmbench.console import say
from slmbench.errors import FileError, Problem
from slmbench.files import disk_errors
from slmbench.runs._folders import located_runs
from slmbench.runs._record import read_record
from slmbench.runs._store import Run
from slmbench.values import JsonObject
from slmbench.visible import visible

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_INT64 = 2**63
# Column -> where a record has it, and its Arrow type.
_RUN_COLUMNS: dict[str, tuple[str, str]] = {
    "run_id": ("run_id", "string"),
    "created": ("created", "string"),
    "model": ("model.name", "string"),
    "model_id": ("model.id", "string"),
    "quantization": ("model.quantization", "string"),
    "parameters": ("model.parameters", "int64"),
    "adapter": ("adapter.name", "string"),
    "adapter_method": ("adapter.method", "string"),
    "adapter_rank": ("adapter.rank", "int64"),
    "adapter_bytes": ("adapter.bytes", "int64"),
    "recipe": ("adapter.recipe", "string"),
    "train_seed": ("adapter.train_seed", "int64"),
    "train_s": ("adapter.train_s", "double"),
    "task": ("task.id", "string"),
    "task_version": ("task.version", "string"),
    "split": ("dataset.split", "string"),
    "source": ("dataset.source", "string"),
    "n_items": ("dataset.n", "int64"),
    "limit": ("limit", "int64"),
    "seed": ("seed", "int64"),
    "format": ("format", "string"),
    "shots": ("fewshot.n", "int64"),
    "cot": ("cot", "string"),
    "engine": ("engine", "string"),
    "comparability_key": ("comparability_key", "string"),
    "seconds": ("cost.seconds", "double"),
    "latency_p50_ms": ("cost.latency_p50_ms", "double"),
    "ram_peak_B": ("cost.ram_peak_B", "int64"),
    "vram_peak_B": ("cost.vram_peak_B", "int64"),
    "prefill_tokens_per_s": ("cost.prefill_tokens_per_s", "double"),
    "decode_tokens_per_s": ("cost.decode_tokens_per_s", "double"),
    "load_s": ("cost.load_s", "double"),
    "model_B": ("cost.model_B", "int64"),
    "tokens_in": ("cost.tokens_in", "int64"),
    "tokens_out": ("cost.tokens_out", "int64"),
}
_METRIC_COLUMNS = {
    **{"name": "string", "value": "double", "se": "double", "ci_lo": "double", "ci_hi": "double", "method": "string"},
    **{"n": "int64", "n_error": "int64", "higher_is_better": "bool", "chance": "double"},
}
# A sample's own columns; `scores` is a column a metric, and `adapter` is the run's beside `answered_by`.
_SAMPLE_COLUMNS = {
    **{"item_id": "string", "epoch": "int64", "cluster_id": "string", "prompt": "string", "prompt_sha256": "string"},
    **{"target": "string", "references": "texts", "output": "string", "format_fault": "string", "verdict": "string"},
    **{"verdict_detail": "string", "choices": "texts", "loglikelihoods": "numbers", "gold": "int64"},
    **{"finish_reason": "string", "tokens_in": "int64", "tokens_out": "int64", "truncated": "bool"},
    **{"target_loglikelihood": "double", "target_bytes": "int64"},
    **{"latency_ms": "double", "compute_ms": "double", "answered_by": "string", "parts": "json"},
    "sample_scores": "json",
}


class RunTable(Sequence[Run]):
    """Finished runs, oldest first. problems: of those that are not what they claim, and were left out.

    A sequence of `Run`; as a table, a row for every metric of every run; `samples()` is a table of all their samples.
    """

    def __init__(self, runs: Sequence[Run], problems: Sequence[Problem] = ()) -> None:
        self._runs = list(runs)
        self.problems = tuple(problems)

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> RunTable: ...
    def __getitem__(self, place: int | slice) -> Run | RunTable:
        return RunTable(self._runs[place]) if isinstance(place, slice) else self._runs[place]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<{len(self)} runs>" if len(self) > 5 else "\n".join(map(repr, self._runs)) or "<no runs>"

    def samples(self, change: Callable[[Run, JsonObject], JsonObject] = lambda _, sample: sample) -> SampleTable:
        """The samples of all these runs, which are read when the table is made. change: what is made of each."""
        return SampleTable(self, change)

    def to_arrow(self) -> pa.Table:
        """A row for every metric of every run: who, what, how, value and interval, cost, and the run's folder."""
        rows = []
        for run in self:
            common = {name: _dug(run.record, place) for name, (place, _) in _RUN_COLUMNS.items()}
            for metric in run.record["metrics"]:
                told = {_metric_column(name): metric.get(name) for name in _METRIC_COLUMNS}
                rows.append(common | told | {"folder": run.folder})
        kinds = {name: kind for name, (_, kind) in _RUN_COLUMNS.items()}
        kinds |= {_metric_column(name): kind for name, kind in _METRIC_COLUMNS.items()} | {"folder": "string"}
        return _table(rows, kinds)

    def to_pandas(self) -> pd.DataFrame:
        """As `to_arrow`, with nullable types for whole numbers that may be missing."""
        return _pandas(self.to_arrow())


class SampleTable:
    """Samples of several runs as one table: the run's id, model, adapter and task, then the sample's own columns.

    A column `scores.<metric>` for every metric that some run has, null in the others. A text with half a character,
    which no table can hold, has a replacement character there; parts of pooled metrics are JSON.
    """

    def __init__(self, runs: RunTable, change: Callable[[Run, JsonObject], JsonObject]) -> None:
        self._runs = runs
        self._change = change
        names = dict.fromkeys(metric["name"] for run in runs for metric in run.record["metrics"])
        self._metrics = tuple(names)
        self.kinds = dict.fromkeys(("run_id", "model", "adapter", "task"), "string") | _SAMPLE_COLUMNS
        self.kinds |= dict.fromkeys((f"scores.{_text(name)}" for name in names), "double")

    def tables(self) -> Iterator[pa.Table]:
        """One run after another, so that no more than one is in memory. Raises FileError, SlmbenchError."""
        for run in self._runs:
            yield _table([self._row(run, sample) for sample in run.samples()], self.kinds)

    def to_arrow(self) -> pa.Table:
        """All of them. Raises FileError, SlmbenchError if a file isn't what was written."""
        import pyarrow as pa

        tables = list(self.tables())
        return pa.concat_tables(tables) if tables else _table([], self.kinds)

    def to_pandas(self) -> pd.DataFrame:
        """All of them, with nullable types for whole numbers that may be missing."""
        return _pandas(self.to_arrow())

    def write_parquet(self, path: str | os.PathLike[str]) -> int:
        """Writes them to a file, one run after another; returns how many there are. Raises SlmbenchError."""
        return _write(self.tables(), _schema(self.kinds), os.fspath(path))

    def _row(self, run: Run, sample: JsonObject) -> JsonObject:
        record = run.record
        sample = self._change(run, sample)
        row = {name: sample.get(name) for name in _SAMPLE_COLUMNS}
        row |= {"answered_by": sample.get("adapter"), "parts": sample.get("parts")}
        row |= {"run_id": record["run_id"], "model": record["model"]["name"], "task": record["task"]["id"]}
        row["adapter"] = (record.get("adapter") or {}).get("name")
        return row | {f"scores.{_text(name)}": (sample.get("scores") or {}).get(name) for name in self._metrics}


def open_runs(*paths: str | os.PathLike[str], task: str | None = None, model: str | None = None) -> RunTable:
    """The finished runs under paths: output folders, folders of runs, or single runs; by default `slmbench-out`.

    task, model: those of this task or model alone. A run whose record is not what it claims is left out, said, and in
    `problems`; that samples are what was written is looked at when they are read.
    Raises UsageError for a path that holds no run.
    """
    folders = {real: folder for path in paths or ("slmbench-out",) for real, folder in located_runs(Path(path))}
    runs: list[Run] = []
    problems: list[Problem] = []
    for folder in folders.values():
        try:
            record = read_record(folder)
        except FileNotFoundError:
            continue
        except FileError as error:
            problems += error.problems
            continue
        if record["status"] != "ok":
            continue
        if task in (None, record["task"]["id"]) and model in (None, record["model"]["name"]):
            runs.append(Run(str(folder), record))
    for problem in problems:
        say(f"note: {visible(str(problem))}; left out")
    return RunTable(sorted(runs, key=lambda run: (run.record["created"], run.run_id)), problems)


def write_runs_parquet(runs: RunTable, path: str | os.PathLike[str]) -> int:
    """Writes `RunTable.to_arrow` to a file; returns how many rows it has. Raises SlmbenchError."""
    table = runs.to_arrow()
    return _write(iter([table]), table.schema, os.fspath(path))


def _metric_column(name: str) -> str:
    return "metric" if name == "name" else f"metric_{name}" if name == "method" else name


def _dug(record: JsonObject, place: str) -> object:
    found: Any = record
    for part in place.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _text(text: str) -> str:
    """Without halves of characters, which UTF-8 has none of; two halves that follow each other are one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fitting(value: object, kind: str) -> object:
    """A value of a column's kind; None for a number beyond it."""
    if value is None:
        return None
    if kind == "json":
        return _text(json.dumps(value))
    if kind == "string":
        return _text(str(value))
    if kind == "texts":
        return [None if one is None else _text(str(one)) for one in value] if isinstance(value, list) else None
    if kind == "int64":
        return value if isinstance(value, int) and -_INT64 <= value < _INT64 else None
    return value


def _schema(kinds: dict[str, str]) -> pa.Schema:
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "json": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
    }
    types |= {"texts": pa.list_(pa.string()), "numbers": pa.list_(pa.float64())}
    return pa.schema([(name, types[kind]) for name, kind in kinds.items()])


def _table(rows: Sequence[JsonObject], kinds: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    schema = _schema(kinds)
    columns = [
        pa.array([_fitting(row[name], kind) for row in rows], schema.field(name).type) for name, kind in kinds.items()
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _pandas(table: pa.Table) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    whole = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole.get)
    return frame


def _write(tables: Iterator[pa.Table], schema: pa.Schema, path: str) -> int:
    from pyarrow import parquet

    beside, n_rows = f"{path}.{os.getpid()}.tmp", 0
    try:
        with disk_errors(path):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
                for table in tables:
                    n_rows += table.num_rows
                    writer.write_table(table)
            os.replace(beside, path)
    finally:
        if os.path.exists(beside):
            os.unlink(beside)
    return n_rows
