"""Jobs: work as data, begun in order where it fits, and what became of it, kept where many processes see it."""

from slmbench.scheduling._attempt import JobAttempt, JobOutcome, JobStart
from slmbench.scheduling._book import JobBook, JobState, State, TooManyStarts
from slmbench.scheduling._do import JobResults, Runner, do_job, logged, runner_of
from slmbench.scheduling._driver import only_driver
from slmbench.scheduling._emit import shell_script, slurm_script, waves_of
from slmbench.scheduling._job import KINDS, Job, JobForecast, Kind, in_order, job_from, job_of
from slmbench.scheduling._pool import EndedJob, LocalPool, LocalResources
from slmbench.scheduling._progress import STATES, JobsProgress, looked_up, progress_of
from slmbench.scheduling._ray import RayBackend, RayResources
from slmbench.scheduling._ray_node import node_facts
from slmbench.scheduling._run import Backend, Watcher, run_jobs
from slmbench.scheduling._store import JobCommit, ResultStore, StoredFile, StoredFolder
from slmbench.scheduling._stored import StoredJobs, StoreOptions

__all__ = [
    "KINDS",
    "STATES",
    "Backend",
    "EndedJob",
    "Job",
    "JobAttempt",
    "JobBook",
    "JobCommit",
    "JobForecast",
    "JobOutcome",
    "JobResults",
    "JobStart",
    "JobState",
    "JobsProgress",
    "Kind",
    "LocalPool",
    "LocalResources",
    "RayBackend",
    "RayResources",
    "ResultStore",
    "Runner",
    "State",
    "StoreOptions",
    "StoredFile",
    "StoredFolder",
    "StoredJobs",
    "TooManyStarts",
    "Watcher",
    "do_job",
    "in_order",
    "job_from",
    "job_of",
    "logged",
    "looked_up",
    "node_facts",
    "only_driver",
    "progress_of",
    "run_jobs",
    "runner_of",
    "shell_script",
    "slurm_script",
    "waves_of",
]
