"""The format that a model was trained in: what it is evaluated in unless told, and what is said where it isn't."""

from __future__ import annotations

import os
from collections.abc import Sequence

from slmbench.console import say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.formats import Format, load_format
from slmbench.models import LoadedModel, ModelSource, is_whole_model, read_adapter
from slmbench.paths import shown
from slmbench.registry import Registry
from slmbench.runs import TrainingRecord, trained_as

PLAIN = "plain"
HAS_TEMPLATE = "the model has a chat template; this run is in format plain"


def choose_format(
    model: LoadedModel | ModelSource, trained: Sequence[str], given: str | None, plugins: Registry | None = None
) -> str:
    """The format of an evaluation: the given one, else that of the trainings, else plain.

    model: its own training counts where nothing is put on it. trained: folders of adapters, or of whole models that a
    training left. plugins: formats that the tasks' plugins bring. A format that comes from a training is said. Raises
    UsageError for an unknown one, and where the trainings name several.
    """
    if given is not None:
        return load_format(given, plugins).name
    named = {shown(folder): name for folder in trained if (name := _of_folder(folder))}
    if not trained:
        source = model.source if isinstance(model, LoadedModel) else model
        name = format_trained_in(model) if isinstance(model, LoadedModel) else _of_whole(source.location)
        named = {source.name: name} if name else {}
    if len(set(named.values())) > 1:
        said = "; ".join(f"{folder}: {name}" for folder, name in named.items())
        raise UsageError(
            f"these were trained in different formats ({said}); evaluate them apart, or give --format (format=...) and "
            "all are evaluated in that one"
        )
    for folder, name in named.items():
        try:
            load_format(name, plugins)
        except UsageError as error:
            raise UsageError(f"{folder} was trained in a format that isn't here: {error}; give --format") from None
        if name != PLAIN:
            say(f"format {name}: {folder} was trained in it; --format takes another")
        return name
    return PLAIN


def format_remarks(loaded: LoadedModel, style: Format) -> list[str]:
    """What a reader of a run should know of the format that the model is asked in; [] where nothing is odd."""
    trained = format_trained_in(loaded)
    if trained not in (None, style.name):
        who = f"adapter {loaded.adapter.name!r}" if loaded.adapter else "the model"
        return [f"{who} was trained in format {trained}; this run is in format {style.name}"]
    # The embedded model has seen a few turns, and a twin nothing: neither is tuned on them.
    tuned = not loaded.source.twin and loaded.source.family != "nano"
    if not style.fenced and trained is None and tuned and loaded.tokenizer.chat_template:
        return [HAS_TEMPLATE]
    return []


def format_trained_in(loaded: LoadedModel) -> str | None:
    """The format that the training of a model's adapter, or of all its weights, names; None where none does."""
    if loaded.adapter is not None:
        return _named(loaded.adapter.training)
    return _of_whole(loaded.source.location)


def _of_folder(folder: str) -> str | None:
    if is_whole_model(folder):
        return _of_whole(folder)
    return _named(read_adapter(folder).training)


def _of_whole(folder: str) -> str | None:
    if not os.path.isdir(folder) or not is_whole_model(folder):
        return None
    try:
        return _named(trained_as(folder))
    except (FileNotFoundError, SlmbenchError):  # Of another tool, as a model's folder may hold any file.
        return None


def _named(training: TrainingRecord | None) -> str | None:
    if training is None or "format" not in training.settings.model_fields_set:
        return None
    return training.settings.format
