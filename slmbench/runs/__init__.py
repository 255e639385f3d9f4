"""Runs and trainings on disk: the typed records, one writer and one reader of each; records survive a kill."""

from slmbench.runs._record import (
    LEFT_OUT,
    AdapterPart,
    CostPart,
    DatasetPart,
    MetricPart,
    ModelPart,
    PackagePart,
    RunIdentity,
    RunRecord,
    SampleRecord,
    SandboxPart,
    ScorerPart,
    ShotsPart,
    TaskPart,
    read_record,
    read_sample,
)
from slmbench.runs._store import OpenRun, Run, finished_run, now
from slmbench.runs._training import TrainedBase, TrainedTask, TrainingRecord, read_training, write_training
from slmbench.runs._verify import MEAN_TOLERANCE, Pool, VerifiedScores, pooling, verify
from slmbench.runs._versions import READS, RECORD, SAMPLES, TRAINING, NewerRecord
from slmbench.seal import canonical_sha256

__all__ = [
    "LEFT_OUT",
    "MEAN_TOLERANCE",
    "READS",
    "RECORD",
    "SAMPLES",
    "TRAINING",
    "AdapterPart",
    "CostPart",
    "DatasetPart",
    "MetricPart",
    "ModelPart",
    "NewerRecord",
    "OpenRun",
    "PackagePart",
    "Pool",
    "Run",
    "RunIdentity",
    "RunRecord",
    "SampleRecord",
    "SandboxPart",
    "ScorerPart",
    "ShotsPart",
    "TaskPart",
    "TrainedBase",
    "TrainedTask",
    "TrainingRecord",
    "VerifiedScores",
    "canonical_sha256",
    "finished_run",
    "now",
    "pooling",
    "read_record",
    "read_sample",
    "read_training",
    "verify",
    "write_training",
]
