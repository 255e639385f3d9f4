"""Tasks: a declaration, its hooks and its metrics bound into the one object that training and evaluation both ask."""

from slmbench.task._judging import extracted, outputs_of, reads_targets, scores_samples
from slmbench.task._load import load_task, load_task_folder, templates_of
from slmbench.task._missing import evaluation_needs, left_out_notes, require_rows, training_needs
from slmbench.task._program import program_of
from slmbench.task._prompts import PROMPTS, limit_for, prompts_task
from slmbench.task._settings import LIKELIHOODS, Settings, engines_of, formats_of
from slmbench.task._shown import is_among_its_shots
from slmbench.task._task import Task
from slmbench.task._typed import Blank, blanks_of, typed_example

__all__ = [
    "LIKELIHOODS",
    "PROMPTS",
    "Blank",
    "Settings",
    "Task",
    "blanks_of",
    "engines_of",
    "evaluation_needs",
    "extracted",
    "formats_of",
    "is_among_its_shots",
    "left_out_notes",
    "limit_for",
    "load_task",
    "load_task_folder",
    "outputs_of",
    "program_of",
    "prompts_task",
    "reads_targets",
    "require_rows",
    "scores_samples",
    "templates_of",
    "training_needs",
    "typed_example",
]
