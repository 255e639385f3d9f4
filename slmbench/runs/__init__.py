"""Runs and trainings on disk: the typed records, one writer and one reader of each; records survive a kill."""

import os
import sys
from types import ModuleType

from slmbench.runs._comparable import (
    beside_of,
    comparability_key,
    comparability_keys,
    metric_key,
    sandbox_told,
)
from slmbench.runs._folders import JOURNAL, located_runs, run_folders
from slmbench.runs._frames import RunTable, SampleTable, open_runs, write_runs_parquet
from slmbench.runs._hashes import FileState, SampleHashes
from slmbench.runs._ids import (
    digits_of,
    evaluated_digits,
    imported_digits,
    rescored_digits,
    stopped_digits,
    stopped_key,
)
from slmbench.runs._item_scores import (
    ALONE,
    MEAN_TOLERANCE,
    ItemScores,
    aligned,
    cluster_hash,
    differing_score,
    item_hash,
    make_item_scores,
    read_item_scores,
)
from slmbench.runs._merged import MergedBase, MergedInput, MergeRecord, read_merge, trained_as, write_merge
from slmbench.runs._part import ImportedPart, MergePart, Part, RescoredPart
from slmbench.runs._record import (
    AT_LIMIT,
    AT_STOP,
    CUT,
    LEFT_OUT,
    NOT_IN_FORMAT,
    AdapterPart,
    CostPart,
    DatasetPart,
    MetricPart,
    ModelPart,
    PackagePart,
    RunIdentity,
    RunRecord,
    SandboxPart,
    ScorerPart,
    ServedPart,
    ShotsPart,
    TaskPart,
    read_record,
)
from slmbench.runs._sample import SampleRecord, read_sample
from slmbench.runs._stopped import PAUSED, StoppedPart
from slmbench.runs._store import OpenRun, Run, finished_run, identity_faults, now, sample_line
from slmbench.runs._training import (
    TrainedBase,
    TrainedFrom,
    TrainedTask,
    TrainingRecord,
    read_training,
    write_training,
)
from slmbench.runs._verify import Pool, VerifiedScores, pooling, verify
from slmbench.runs._versions import ITEM_SCORES, MERGE, READS, RECORD, SAMPLES, TRAINING, NewerRecord
from slmbench.seal import canonical_sha256

__all__ = [
    "ALONE",
    "AT_LIMIT",
    "AT_STOP",
    "CUT",
    "ITEM_SCORES",
    "JOURNAL",
    "LEFT_OUT",
    "MEAN_TOLERANCE",
    "MERGE",
    "NOT_IN_FORMAT",
    "PAUSED",
    "READS",
    "RECORD",
    "SAMPLES",
    "TRAINING",
    "AdapterPart",
    "CostPart",
    "DatasetPart",
    "FileState",
    "ImportedPart",
    "ItemScores",
    "MergePart",
    "MergeRecord",
    "MergedBase",
    "MergedInput",
    "MetricPart",
    "ModelPart",
    "NewerRecord",
    "OpenRun",
    "PackagePart",
    "Part",
    "Pool",
    "RescoredPart",
    "Run",
    "RunIdentity",
    "RunRecord",
    "RunTable",
    "SampleHashes",
    "SampleRecord",
    "SampleTable",
    "SandboxPart",
    "ScorerPart",
    "ServedPart",
    "ShotsPart",
    "StoppedPart",
    "TaskPart",
    "TrainedBase",
    "TrainedFrom",
    "TrainedTask",
    "TrainingRecord",
    "VerifiedScores",
    "aligned",
    "beside_of",
    "canonical_sha256",
    "cluster_hash",
    "comparability_key",
    "comparability_keys",
    "differing_score",
    "digits_of",
    "evaluated_digits",
    "finished_run",
    "identity_faults",
    "imported_digits",
    "item_hash",
    "located_runs",
    "make_item_scores",
    "metric_key",
    "now",
    "open_runs",
    "pooling",
    "read_item_scores",
    "read_merge",
    "read_record",
    "read_sample",
    "read_training",
    "rescored_digits",
    "run_folders",
    "sample_line",
    "sandbox_told",
    "stopped_digits",
    "stopped_key",
    "trained_as",
    "verify",
    "write_merge",
    "write_runs_parquet",
    "write_training",
]


class _Callable(ModuleType):
    """`slmbench.runs` is this package, and what opens runs: `slmbench.runs("out").samples().to_pandas()`."""

    def __call__(self, *paths: str | os.PathLike[str], task: str | None = None, model: str | None = None) -> RunTable:
        return open_runs(*paths, task=task, model=model)


sys.modules[__name__].__class__ = _Callable
