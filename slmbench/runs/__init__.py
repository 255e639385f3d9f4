"""Run records that survive a kill."""

from slmbench.runs._machine import (
    available_bytes,
    code,
    hardware,
    packages,
    peak_memory_bytes,
    peak_vram_bytes,
    reset_peak_memory,
)
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
    "available_bytes",
    "canonical_sha256",
    "code",
    "finished_run",
    "hardware",
    "now",
    "packages",
    "peak_memory_bytes",
    "peak_vram_bytes",
    "read_record",
    "read_sample",
    "reset_peak_memory",
]
