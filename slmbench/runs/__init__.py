"""Run records that survive a kill."""

from slmbench.runs._record import LEFT_OUT, RECORD, SAMPLES, NewerRecord, Record, Sample, read_record, read_sample
from slmbench.runs._store import OpenRun, Run, finished_run, now
from slmbench.seal import canonical_sha256

__all__ = [
    "LEFT_OUT",
    "RECORD",
    "SAMPLES",
    "NewerRecord",
    "OpenRun",
    "Record",
    "Run",
    "Sample",
    "canonical_sha256",
    "finished_run",
    "now",
    "read_record",
    "read_sample",
]
