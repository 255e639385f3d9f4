"""What suites and recipes need, gathered into one folder that is carried to where there is no network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import DataError, MissingData, OfflineError, UsageError
from slmbench.paths import shown, user_roots
from slmbench.workflow.recipes import is_merge_recipe

if TYPE_CHECKING:
    from slmbench.datasets import Dataset
    from slmbench.mirror import HubModel, MirrorReport


@frozen
class Needs:
    """What has to be in a mirror. own: data sets of the user's own rows. notes: what else a person has to carry."""

    datasets: tuple[Dataset, ...] = ()
    models: tuple[HubModel, ...] = ()
    own: tuple[Dataset, ...] = ()
    notes: tuple[str, ...] = ()


def needs_of(
    catalog: Catalog,
    *,
    datasets: Iterable[str] = (),
    suites: Iterable[str] = (),
    recipes: Iterable[str] = (),
    models: Iterable[str] = (),
) -> Needs:
    """What data sets, suites, recipes and models need: rows, weights with tokenizers, models that metrics load.

    Raises UsageError or DeclarationError for a name that isn't one.
    """
    from slmbench.datasets import load_dataset_spec
    from slmbench.mirror import HubModel, hub_model
    from slmbench.recipe import suite_tasks
    from slmbench.task import load_task

    tasks = [task for suite in suites for task in suite_tasks(catalog, suite)]
    wanted = list(models)
    for recipe in recipes:
        model, of_recipe = _of_recipe(recipe, catalog)
        wanted.append(model)
        tasks += of_recipe
    loaded = [load_task(name, catalog) for name in dict.fromkeys(tasks)]
    rows = {name: load_dataset_spec(catalog, name) for name in datasets}
    rows |= {task.dataset.name: task.dataset for task in loaded}
    notes: list[str] = []
    found: dict[str, HubModel] = {}
    for name in dict.fromkeys(wanted):
        one = hub_model(name, catalog)
        if isinstance(one, HubModel):
            found.setdefault(one.hub, one)
        else:
            notes.append(one)
    if any(scorer.name == "bertscore" for task in loaded for scorer in task.scorers):
        _add_bertscore(found, notes)
    for dataset in rows.values():
        if dataset.spec.loader is not None:
            notes.append(f"data set {dataset.name!r}: a loader of yours yields its rows; see that it works there")
    if user_roots():
        notes.append(f"carry your declarations over, too (SLMBENCH_PATH): {', '.join(map(shown, user_roots()))}")
    return Needs(
        tuple(one for one in rows.values() if one.spec.hub is not None),
        tuple(found.values()),
        tuple(one for one in rows.values() if one.spec.local is not None),
        tuple(notes),
    )


def _of_recipe(name: str, catalog: Catalog) -> tuple[str, list[str]]:
    """(its model, the tasks that it trains on and is scored on)."""
    from slmbench.merge_recipe import load_merge_recipe
    from slmbench.recipe import load_recipe

    if not is_merge_recipe(name, catalog):
        recipe = load_recipe(name, catalog)
        trained = [task for adapter in recipe.spec.adapters.values() for task in adapter.tasks]
        return recipe.spec.model, trained + recipe.evaluation_tasks(catalog)
    merge = load_merge_recipe(name, catalog)
    of_train = [] if merge.train is None else [merge.train.spec.adapters[one] for one in merge.adapters]
    trained = [task for adapter in of_train for task in adapter.tasks]
    scored = merge.evaluation_tasks(catalog) if merge.train is not None or merge.spec.evaluation is not None else []
    return merge.model, trained + scored


def _add_bertscore(found: dict[str, HubModel], notes: list[str]) -> None:
    from slmbench.metrics.bertscore import MODEL_VARIABLE, bertscore_asked
    from slmbench.mirror import HubModel

    asked = bertscore_asked()
    if os.path.isdir(os.path.expanduser(asked)):
        notes.append(f"bertscore: carry {shown(asked)} over, and set {MODEL_VARIABLE} to it there")
    else:
        ways = f"; or set {MODEL_VARIABLE} to a model's folder, or leave bertscore out with --metrics"
        found.setdefault(asked, HubModel(asked, asked, pickles=True, ways=ways))


def gather(needs: Needs, to: str) -> list[str]:
    """Puts all that is needed into a mirror; returns the paths of what is there. What is whole already stays.

    Raises OfflineError at the end with everything that can't be had, and the way to get each; SlmbenchError at once for
    a disk that is full. Interrupted or not, the same call goes on with what is there.
    """
    from slmbench.mirror import pull_datasets, pull_model

    written: list[str] = []
    lacking: list[str] = []
    for dataset in needs.datasets:
        try:
            written += pull_datasets([dataset], to)
        except MissingData as error:
            cause = error.__cause__
            lacking.append(f"{error.what}{f' ({_short(cause)})' if cause is not None else ''}")
        except (OfflineError, DataError, UsageError) as error:
            lacking.append(str(error))
    for model in needs.models:
        try:
            written += pull_model(model, to)
        except (OfflineError, UsageError) as error:
            lacking.append(str(error))
    for dataset in needs.own:
        folder = os.path.join(to, dataset.name)
        there = os.listdir(folder) if os.path.isdir(folder) else []
        for split in dataset.spec.local or ():
            if not any(name.startswith(f"{split}.") for name in there):
                path = shown(os.path.join(folder, f"{split}.jsonl"))
                lacking.append(f"data set {dataset.name!r}: its rows are a file of your own; put it at {path}")
    for note in needs.notes:
        say(f"note: {note}")
    if lacking:
        count = "1 thing" if len(lacking) == 1 else f"{len(lacking)} things"
        listed = "\n".join(f"  {one}" for one in lacking)
        raise OfflineError(f"{count} could not be pulled; the rest is in {shown(to)}:\n{listed}")
    return written


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def verify_mirror(folder: str, catalog: Catalog, names: Iterable[str] = (), needs: Needs | None = None) -> MirrorReport:
    """Reads a mirror through, data sets and models; names: these data sets alone. needs: what has to be there.

    Raises UsageError if it is not a folder, or a name is not a data set.
    """
    from attrs import evolve

    from slmbench.mirror import verify, verify_models

    needs = needs or Needs()
    names = list(names)
    rows = verify(folder, catalog, names or None, (*needs.datasets, *needs.own))
    if names and not needs.models:
        return rows
    models = verify_models(folder, catalog, needs.models)
    problems, notices = (*rows.problems, *models.problems), (*rows.notices, *models.notices)
    return evolve(rows, problems=problems, notices=notices, files=rows.files + models.files)
