"""A job: the work of one process, as data that goes to another process, another machine, or a file and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

from attrs import asdict, field, frozen
from pydantic import AfterValidator, Field

from slmbench.errors import UsageError
from slmbench.foreign import Amount, Count, Foreign, SchemaOne, parse
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

Kind = Literal["train", "merge", "evaluate"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KEY_DIGITS = 12
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]+")
_LONGEST_NAME = 80
SCHEMA = 1


@frozen(kw_only=True)
class JobForecast:
    """What a job will take, as far as it is known; None where it isn't.

    seconds: on this machine, one worker; memory_bytes: RAM; gpu_bytes: GPU memory; tokens: read and written.
    items: scored. processes: each with the cores of a worker, or a GPU.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    tokens: int | None = None
    items: int | None = None
    processes: int = 1


@frozen(kw_only=True)
class Job:
    """One process's work. key: a folder's name, the same whenever the same work is planned.

    work: what the runner of its kind reads, JSON alone. makes: keys of the results that it is for (of runs, trainings,
    merged models); those that are there already aren't made again. needs: keys of jobs that have to be done before.
    """

    key: str
    kind: Kind
    name: str
    work: JsonObject = field(repr=False)
    makes: tuple[str, ...] = field(repr=False)
    needs: tuple[str, ...] = ()
    forecast: JobForecast = JobForecast()

    def as_json(self) -> JsonObject:
        return {
            "schema": SCHEMA,
            "key": self.key,
            "kind": self.kind,
            "name": self.name,
            "work": self.work,
            "makes": list(self.makes),
            "needs": list(self.needs),
            "forecast": asdict(self.forecast),
        }


def job_of(
    kind: Kind, name: str, work: JsonObject, makes: Sequence[str], *, needs: Sequence[str] = (), forecast: JobForecast
) -> Job:
    """A job with the key of its work: a few words for people, and a digest of kind and work."""
    words = _NO_NAME.sub("-", name).strip("-.")[:_LONGEST_NAME] or kind
    digest = canonical_sha256([kind, work])[:_KEY_DIGITS]
    return Job(
        key=f"{kind}-{words}-{digest}",
        kind=kind,
        name=name,
        work=work,
        makes=tuple(makes),
        needs=tuple(needs),
        forecast=forecast,
    )


def _is_key(key: str) -> str:
    if _NO_NAME.search(key) or key.startswith(".") or not key:
        raise ValueError("a job's key is a folder's name: letters, digits, and . _ + -")
    return key


Key = Annotated[str, AfterValidator(_is_key)]


class _ForecastFile(Foreign, extra="forbid"):
    seconds: Amount | None
    memory_bytes: Count | None
    gpu_bytes: Count | None
    tokens: Count | None
    items: Count | None = None
    processes: int = Field(default=1, ge=1)


class _JobFile(Foreign, extra="forbid"):
    version: SchemaOne = Field(alias="schema")
    key: Key
    kind: Kind
    name: str
    work: dict[str, object]
    makes: list[str]
    needs: list[Key]
    forecast: _ForecastFile


def job_from(value: object, path: str) -> Job:
    """A job out of its JSON. path: where it was read. Raises FileError with every fault at once."""
    read = parse(_JobFile, value, path)
    return Job(
        key=read.key,
        kind=read.kind,
        name=read.name,
        work=read.work,
        makes=tuple(read.makes),
        needs=tuple(read.needs),
        forecast=JobForecast(**read.forecast.model_dump()),
    )


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to start them: what is needed first, then the longest; equal ones by key.

    A job counts as long as itself and the longest of what waits for it. Raises UsageError for a job that needs one that
    isn't there, and for a circle.
    """
    by_key = {job.key: job for job in jobs}
    waiting: dict[str, list[str]] = {key: [] for key in by_key}
    for job in by_key.values():
        for need in job.needs:
            if need not in by_key:
                raise UsageError(f"job {job.key} needs {need}, which isn't among the jobs")
            waiting[need].append(job.key)
    left = {job.key: len(job.needs) for job in by_key.values()}
    ready = [key for key, count in left.items() if not count]
    ranked: list[str] = []
    depth = dict.fromkeys(by_key, 0)
    while ready:
        key = ready.pop()
        ranked.append(key)
        for other in waiting[key]:
            depth[other] = max(depth[other], depth[key] + 1)
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    if len(ranked) < len(by_key):
        circle = ", ".join(sorted(set(by_key) - set(ranked)))
        raise UsageError(f"these jobs need each other in a circle: {circle}")
    path_s: dict[str, float] = {}
    for key in reversed(ranked):
        path_s[key] = (by_key[key].forecast.seconds or 0.0) + max(
            (path_s[other] for other in waiting[key]), default=0.0
        )
    return [by_key[key] for key in sorted(ranked, key=lambda key: (-path_s[key], depth[key], key))]
