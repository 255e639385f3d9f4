"""A new task that passes `check` as it is: a folder to edit, and a recipe that trains nano on it."""

from __future__ import annotations

import json
import os
import random
import shutil

from attrs import frozen

from slmbench.catalog import Catalog, default_catalog
from slmbench.drafts import Wishes, draft_task
from slmbench.errors import UsageError
from slmbench.files import disk_errors, write_atomically
from slmbench.nano.words import COMPLAINTS, NAMES
from slmbench.paths import shown
from slmbench.schema import plain_name
from slmbench.task import load_task_folder
from slmbench.values import JsonObject

_IGNORED = """\
# Your own rows, which may be private. Remove this to have them with the task.
{file}
"""
TRAIN_ROWS = 40
TEST_ROWS = 20
GOLDEN_ROWS = 4

_TASK = """\
# One task, one folder. The folder's name is the task's name. `slmbench check {name}` says what is wrong, by line.
summary: Which of the findings of a short report was the last one.
source: Made by `slmbench new task`; put here where your rows come from.
version: 1                      # Raise it whenever a change makes scores incomparable with earlier ones.
license: apache-2.0             # The terms of the rows, not of this file.

# The rows: JSON Lines beside this file. Instead of `files`, a data set of the registry can be named (`dataset: gsm8k`),
# or `generated: {{train: 4000, test: 400}}` with a generate(split, index, seed) in plugin.py.
dataset:
  files: {{train: train.jsonl, test: test.jsonl}}
  columns: [report, finding]

kind: generate                  # generate: the model writes. choice: it picks one of `choices` by log-likelihood.
split: test                     # What is evaluated...
train_split: train              # ...and what recipes train on. The two must not share rows.

# Jinja over the columns. A plugin.py with example(row) -> dict can add fields that YAML can't make.
prompt:
  user: "Report: {{{{ report }}}}"
  prefix: "Last finding:"       # Opens the answer, in shots, training and evaluation alike; no blank at its end.
answer: "{{{{ finding }}}}"         # What the model is to write after the prefix and one blank.

fewshot: {{n: 0}}                 # Worked examples before each question: {{n: 2, split: train}}
generation: {{max_tokens: 12, stop: ["\\n"]}}
metrics: [exact_match]          # `slmbench list metrics`
"""

_RECIPE = """\
# Trains nano on the task and scores it before and after: `slmbench run {name}`.
summary: The embedded model on {name}, before and after sixty steps.
model: nano
format: plain
adapters:
  "{name}": {{tasks: ["{name}"]}}
lora: {{rank: 16, alpha: 32}}
optim: {{lr: 5e-3, batch: 8, steps: 60, warmup_steps: 5, schedule: linear}}
max_tokens: {max_tokens}
seed: 0
evaluation: {{tasks: ["{name}"], batch: 20}}
"""


@frozen
class NewTask:
    """The files of a new task, and what a person should know of them."""

    files: list[str]
    notes: list[str]


def new_task(
    name: str, to: str, catalog: Catalog | None = None, *, rows_of: str | None = None, wishes: Wishes | None = None
) -> NewTask:
    """Writes `<to>/tasks/<name>/` and `<to>/registry/recipes/<name>.yaml`; the value has all their paths.

    rows_of: a file of one's own whose rows the task is about, guessed and as `wishes` say; it is copied into the
    folder, and kept out of git there. Where `to` holds task folders directly, so does it afterwards. catalog: whose
    names are taken; the default one unless given.
    Raises UsageError for a name that is none or is taken, where a file would be overwritten, and where guesses fail;
    DataError for a file that can't be read or parted; SlmbenchError if the disk refuses. Whatever it raises, nothing
    is left behind.
    """
    try:
        plain_name(name)
    except ValueError as error:
        raise UsageError(f"{name!r} is not a valid task name: {error}") from error
    folder = os.path.join(_tasks_folder(to), name)
    recipe = os.path.join(to, "registry", "recipes", f"{name}.yaml")
    for path in (folder, recipe):
        if os.path.lexists(path):
            raise UsageError(f"{shown(path)} already exists; choose another name, or move it away first")
    catalog = catalog or default_catalog()
    for kind in ("tasks", "recipes"):
        taken = catalog.files(kind).get(name)
        if taken is not None:
            raise UsageError(f"{kind[:-1]} {name!r} already exists, in {shown(taken)}; choose another name")
    draft = draft_task(name, rows_of, wishes or Wishes()) if rows_of is not None else None
    if draft is None:
        files = {"task.yaml": _TASK.format(name=name)} | {part: _lines(rows) for part, rows in _rows().items()}
        written = {part: text.encode() for part, text in files.items()}
    else:
        written = {
            "task.yaml": draft.yaml.encode(),
            draft.file: draft.data,
            "samples.jsonl": _lines(draft.golden).encode(),
            ".gitignore": _IGNORED.format(file=draft.file).encode(),
        }
    temporary = os.path.join(os.path.dirname(folder), f".{name}.{os.getpid()}.tmp")
    made = [path for path in _missing_folders(os.path.dirname(folder), os.path.dirname(recipe))]
    try:
        for part, data in written.items():
            write_atomically(os.path.join(temporary, part), data)
        with disk_errors(folder):
            os.rename(temporary, folder)
        temporary = folder
        notes = list(draft.notes) if draft is not None else []
        notes += _counted(folder, catalog) if draft is not None else []
        max_tokens = draft.max_tokens if draft is not None else 128
        write_atomically(recipe, _RECIPE.format(name=name, max_tokens=max_tokens).encode())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in made:
            _remove_if_empty(path)
        raise
    return NewTask([*(os.path.join(folder, part) for part in written), recipe], notes)


def _counted(folder: str, catalog: Catalog) -> list[str]:
    """How many rows each split has, all of them made into examples, so that a draft that can't work is not a task."""
    task = load_task_folder(folder, catalog, run_plugin=False)
    train, test = task.examples("train"), task.examples("test")
    groups = ""
    if task.spec.cluster is not None:
        n = [len({example.cluster for example in part}) for part in (train, test)]
        groups = f", of {n[0]} and {n[1]} groups"
    return [f"{len(train):,} rows to train on, {len(test):,} held out to be evaluated{groups}"]


def _tasks_folder(to: str) -> str:
    """`<to>/tasks`, or `to` itself where task folders lie directly in it: a new `tasks` would hide those."""
    inner = os.path.join(to, "tasks")
    if os.path.isdir(inner) or not os.path.isdir(to):
        return inner
    direct = any(os.path.isfile(os.path.join(to, child, "task.yaml")) for child in os.listdir(to))
    return to if direct else inner


def _missing_folders(*wanted: str) -> list[str]:
    """The folders that don't exist yet on the way to the wanted ones, the deepest first."""
    missing = set()
    for path in wanted:
        while path and not os.path.isdir(path):
            missing.add(path)
            path = os.path.dirname(path)
    return sorted(missing, key=len, reverse=True)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass


def _rows() -> dict[str, list[dict[str, str]]]:
    """The rows by file. Who had what is drawn without repeats, so that no row is in two files."""
    rng = random.Random("slmbench new task")
    seen: set[tuple[str, str]] = set()
    rows: list[dict[str, str]] = []
    while len(rows) < TRAIN_ROWS + TEST_ROWS:
        name = rng.choice(NAMES)
        first, last = rng.sample(COMPLAINTS, 2)
        if (first, last) not in seen:
            seen.add((first, last))
            rows.append({"report": f"{name} had {first}, then {last}.", "finding": last})
    golden = [
        {"report": "Ada had fever, then cough, then rash.", "finding": "rash"},
        {"report": "Zoë had nausea, then nausea.", "finding": "nausea"},
        {"report": "José had cough on day 1, then fever on day 1,204.", "finding": "fever"},
        {"report": "On Monday Ida had gout.", "finding": "gout"},
    ]
    return {"train.jsonl": rows[:TRAIN_ROWS], "test.jsonl": rows[TRAIN_ROWS:], "samples.jsonl": golden}


def _lines(rows: list[JsonObject]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
