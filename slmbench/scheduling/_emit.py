"""Jobs as a script for other schedulers: every job is a command, and waves say what has to be done before what."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence

from slmbench.scheduling._job import Job, in_order

Command = Callable[[str], list[str]]
"""A job's key -> the words of the command that does it."""
ARRAY_JOBS = 1000
"""Of one array: SLURM's MaxArraySize is 1001 unless a site sets it, and bounds the indices."""
_KEY = "\0"
"""Stands for the key of the array's job: no word of a command is that."""


def waves_of(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs in waves: each needs only those of earlier waves. Raises UsageError as `in_order`."""
    wave_of: dict[str, int] = {}
    waves: list[list[Job]] = []
    left = in_order(jobs)
    while left:
        ready = [job for job in left if all(need in wave_of for need in job.needs)]
        wave_of |= {job.key: len(waves) for job in ready}
        waves.append(ready)
        left = [job for job in left if job.key not in wave_of]
    return waves


def shell_script(jobs: Iterable[Job], command: Command) -> str:
    """A line a job, wave by wave: to be run as it is, or given to GNU parallel a wave at a time."""
    lines = [
        "#!/bin/sh",
        "# A line is a job. Those of one wave may run at once, on any machine with this folder.",
    ]
    for number, wave in enumerate(waves_of(jobs), 1):
        lines.append(f"# wave {number}")
        lines += [shlex.join(command(job.key)) for job in wave]
    return "\n".join(lines) + "\n"


def _quoted_there(word: str) -> str:
    """A word of a command as a script has it that bash writes out of a here-document."""
    if word == _KEY:
        return "\\${keys[\\$SLURM_ARRAY_TASK_ID]}"
    return re.sub(r"([\\$`])", r"\\\1", shlex.quote(word))


def slurm_script(jobs: Iterable[Job], command: Command, *, cores: int = 1, most: int = ARRAY_JOBS) -> str:
    """A script that submits the jobs of each wave, in arrays of at most so many, whatever became of those before."""
    lines = [
        "#!/bin/bash",
        "# Submits one SLURM array a wave, or several: bash THIS_FILE. Options of your own go into SBATCH_* variables.",
        "set -euo pipefail",
        "after=",
    ]
    for number, wave in enumerate(waves_of(jobs), 1):
        lines.append("these=")
        arrays = [wave[start : start + most] for start in range(0, len(wave), most)]
        for part, array in enumerate(arrays, 1):
            name = f"{number}" if len(arrays) == 1 else f"{number}_{part}"
            lines += _array(array, name, command, cores)
        lines.append("after=$these")
    lines.append('echo "the last arrays are $after"')
    return "\n".join(lines) + "\n"


def _array(jobs: Sequence[Job], name: str, command: Command, cores: int) -> list[str]:
    """Lines that submit an array and add its number to those of its wave."""
    memory = max((job.forecast.memory_bytes or 0 for job in jobs), default=0)
    processes = max((job.forecast.processes for job in jobs), default=1)
    gpu = any(job.forecast.gpu_bytes for job in jobs)
    options = [
        f"--job-name=slmbench-{name}",
        f"--array=0-{len(jobs) - 1}",
        f"--cpus-per-task={cores * processes}",
        "--parsable",
    ]
    options += [f"--mem={-(-memory * 5 // 4 // 1_000_000)}M"] if memory else []
    options += [f"--gres=gpu:{processes}"] if gpu else []
    return [
        f"keys{name}=({' '.join(shlex.quote(job.key) for job in jobs)})",
        f"these=${{these:+$these:}}$(sbatch {' '.join(options)} ${{after:+--dependency=afterany:$after}} <<EOF",
        "#!/bin/bash",
        f"keys=(${{keys{name}[@]}})",
        # The array's own variable, which the script that submits must not fill in.
        " ".join(["exec", *map(_quoted_there, command(_KEY))]),
        "EOF",
        ")",
    ]
