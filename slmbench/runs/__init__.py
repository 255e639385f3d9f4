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
from slmbench.runs._store import OpenRun, Run, canonical_sha256, finished_run, now

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
