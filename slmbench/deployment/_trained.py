"""What an adapter's folder says of its training: its base, how that was held, its tasks, and prompts to measure on."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.deployment._merge import Probe
from slmbench.deployment._modelfile import Asking
from slmbench.errors import SlmbenchError, UsageError
from slmbench.formats import Format, encoder_decoder_ids, format_names, load_format, training_ids
from slmbench.models import AdapterInfo, ModelSource, is_model_here, is_whole_model, read_adapter, resolve_model
from slmbench.paths import shown
from slmbench.plugins import load_plugins
from slmbench.runs import TrainingRecord, trained_as
from slmbench.schema import QuantizationSpec
from slmbench.task import Settings, Task, load_task
from slmbench.values import Tokenizer

_EXAMPLES_A_TASK = 2
_MOST_PROBES = 8
_MOST_TOKENS = 256
_DECODER_TOKENS = 16
_OWN_WORDS = ("The quick brown fox jumps over the lazy dog.", "What is 12 times 7?\nAnswer: 84")


@frozen
class Trained:
    """What is exported. info: None for a folder that holds a whole model. record: its training.json, or one that
    says nothing.
    """

    name: str
    folder: str
    info: AdapterInfo | None
    record: TrainingRecord
    source: ModelSource
    held_in: str
    quantization: QuantizationSpec | None
    format: Format
    layout_unknown: bool = False


def read_trained(folder: str, catalog: Catalog, model: str | None, format: str | None = None) -> Trained:
    """What a folder of an adapter, or of a model whose weights were all trained, holds.

    model: its base, where the folder doesn't say or says what isn't there. format: its layout, where it doesn't say.
    Raises UsageError, FileError.
    """
    name = os.path.basename(os.path.abspath(folder))
    if is_whole_model(folder):
        try:
            record = trained_as(folder)
        except FileNotFoundError:
            record = TrainingRecord()
        source = resolve_model(os.path.abspath(folder), catalog)
        return Trained(name, folder, None, record, source, record.dtype, None, *_format(record, format, catalog))
    info = read_adapter(folder)
    source = _base_of(info, catalog) if model is None else resolve_model(model, catalog)
    record = info.record
    return Trained(name, folder, info, record, source, record.dtype, record.packing, *_format(record, format, catalog))


def _base_of(info: AdapterInfo, catalog: Catalog) -> ModelSource:
    """Where an adapter's base is, by what its files say. Raises UsageError, which says where it was looked for."""
    said, base = info.record.model, info.record.base
    peft_said = info.config.base_model_name_or_path
    # A folder's name alone may be another model's name in the registry: paths first.
    for place in (base.location if base else None, peft_said):
        if place and os.path.isabs(place) and is_model_here(place):
            return _named(place, base.name if base else said, catalog)
    names = [said, peft_said]
    if base is not None and os.path.isabs(base.location):
        # The registry's own folders lie elsewhere in another environment; a person's are found by their path alone.
        names = [base.name] if _is_folder_of_registry(base.name, catalog) else []
    for name in filter(None, names):
        with contextlib.suppress(UsageError):
            return _of_name(name, catalog)
    tried = [name for name in (base.location if base else None, *names) if name]
    if not tried:
        raise UsageError(f"adapter {shown(info.folder)} doesn't say what its base is; name it with --model")
    where = " or ".join(shown(place) for place in dict.fromkeys(tried))
    raise UsageError(
        f"adapter {shown(info.folder)} was made on {where}, which is not on this machine; give its folder or name with "
        "--model"
    )


def _named(place: str, name: str | None, catalog: Catalog) -> ModelSource:
    """A folder as the registry's entry of this name, where it is that one's, as that knows more of it."""
    if name is not None:
        with contextlib.suppress(SlmbenchError):
            declared = _of_name(name, catalog)
            if os.path.realpath(declared.location) == os.path.realpath(place):
                return declared
    return resolve_model(place, catalog)


def _is_folder_of_registry(name: str, catalog: Catalog) -> bool:
    with contextlib.suppress(SlmbenchError):
        return name.removesuffix("-twin") in catalog.files("models") and os.path.isabs(_of_name(name, catalog).location)
    return False


def _of_name(given: str, catalog: Catalog) -> ModelSource:
    known = catalog.files("models")
    if given.removeprefix("slmbench/").removesuffix("-twin") in known:  # As peft's own config names what is made here.
        given = given.removeprefix("slmbench/")
    whole = given.removesuffix("-twin")
    if given not in known and given.endswith("-twin") and whole in known:
        return resolve_model(whole, catalog, twin=True)
    return resolve_model(given, catalog)


def _format(record: TrainingRecord, asked: str | None, catalog: Catalog) -> tuple[Format, bool]:
    """(the layout of the prompts, whether nothing says so). Raises UsageError for one that the record contradicts."""
    told = record.settings.format if "format" in record.settings.model_fields_set else None
    if asked and told and asked != told:
        raise UsageError(f"--format {asked}: it was trained on {told}, by its training.json; leave --format out")
    name = told or asked or "plain"
    plugins = load_plugins(catalog)
    for task in record.tasks if name not in format_names() else ():
        with contextlib.suppress(SlmbenchError):  # A task that isn't here any more brings nothing.
            brought = load_task(task, catalog, data="samples").plugins
            plugins = plugins.joined(entry for entry in brought if entry.kind == "format")
    return load_format(name, plugins), not (told or asked)


def tasks_of(trained: Trained, catalog: Catalog) -> tuple[list[Task], list[str]]:
    """(the tasks that it was trained on, over their golden rows, those left out that are not here any more)."""
    settings = trained.record.settings
    found, missing = [], []
    for name in trained.record.tasks:
        try:
            task = load_task(name, catalog, data="samples")
            cot = settings.cot if task.spec.cot else None
            found += [one.in_format(trained.format) for one in Settings(shots=settings.shots, cot=cot).of([task])[0]]
        except SlmbenchError:
            missing.append(name)
    return found, missing


def probes_of(trained: Trained, tasks: Sequence[Task], tokenizer: Tokenizer, model_config: object) -> list[Probe]:
    """Prompts of the tasks' golden rows with their answers, as token ids; sentences of our own where there are none."""
    seq2seq = bool(getattr(model_config, "is_encoder_decoder", False))
    start = getattr(model_config, "decoder_start_token_id", None) or 0
    pairs: list[tuple[list[int], list[int]]] = []
    ids_of = encoder_decoder_ids if seq2seq else training_ids
    for task in tasks:
        try:
            for example in task.examples(task.spec.split, _EXAMPLES_A_TASK):
                rendered = task.render(trained.format, tokenizer, example)
                written = trained.format.write(task.target(example))
                pairs.append(ids_of(trained.format, tokenizer, rendered, written))
        except SlmbenchError:
            continue
    if not pairs:
        own = [list(tokenizer.encode(text)) for text in _OWN_WORDS]
        pairs = [(ids, ids[:4]) for ids in own]
    if seq2seq:
        return [
            Probe(tuple(prompt[-_MOST_TOKENS:]), (start, *answer[:_DECODER_TOKENS]))
            for prompt, answer in pairs[:_MOST_PROBES]
        ]
    # The end of a prompt and the beginning of its answer: where it matters most.
    return [
        Probe((*prompt[-(_MOST_TOKENS - _DECODER_TOKENS) :], *answer[:_DECODER_TOKENS]))
        for prompt, answer in pairs[:_MOST_PROBES]
    ]


def asking_of(trained: Trained, tasks: Sequence[Task]) -> tuple[Asking, list[str]]:
    """(what a Modelfile is to say of the tasks, what a person should know of it)."""
    longest = max((task.max_tokens for task in tasks), default=256)
    room = (trained.record.settings.max_tokens or 1024) + longest
    temperatures = {task.spec.generation.temperature for task in tasks}
    temperature = temperatures.pop() if len(temperatures) == 1 else 0.0
    prefix = "answer:" if trained.format.kind == "object" else ""
    if len(tasks) != 1:
        told = []
        if not trained.format.turns and tasks:
            told = [
                "several tasks, each with a prompt of its own: the TEMPLATE passes on what is asked as it is; ask as "
                "`slmbench show task NAME` shows it"
            ]
        return Asking(temperature=temperature, max_tokens=room, prefix=prefix), told
    task = tasks[0]
    prompt = task.prompt(task.examples(task.spec.split, 1)[0])
    told = []
    question = ("", "")
    if not trained.format.fenced and not prompt.shots:
        question, told = _question(task)
    if prompt.shots:
        told.append("the prompts of this task have worked examples in them, which a person who asks has to give too")
    constant = task.spec.prompt.system
    system = constant if constant and "{{" not in constant and "{%" not in constant else ""
    if constant and not system:
        told.append("the task's system message differs by row, so the Modelfile has none")
    if trained.format.kind == "object":
        told.append(f"ask with an object of Toon, up to its answer, as `slmbench show task {task.name}` shows it")
        opening = "reasoning:" if prompt.reasoned else "answer:"
        stop = tuple(trained.format.stop(task.stop))
        return Asking(system, prefix=opening, temperature=temperature, stop=stop, max_tokens=room), told
    prefix = prompt.prefix
    if trained.format.turns and prefix:
        told.append(f"in training the answer began with {prefix!r}; a chat leaves that to the model")
    asking = Asking(
        system,
        question,
        prefix,
        prompt.delimiter,
        prompt.shot_delimiter,
        temperature,
        tuple(trained.format.stop(task.stop)),
        room,
    )
    return asking, told


def _question(task: Task) -> tuple[tuple[str, str], list[str]]:
    """What stands around the one field of a task's prompt, so that a person can give that field alone."""
    found = re.fullmatch(r"([^{}]*)\{\{\s*(\w+)\s*\}\}([^{}]*)", task.spec.prompt.user.strip("\n"))
    if found is not None:
        before, field, after = found.groups()
        examples = task.examples(task.spec.split, _EXAMPLES_A_TASK)
        # With a chain of thought more stands there than the declaration's `user` says.
        if all(task.question(one) == f"{before}{one.fields.get(field)}{after}" for one in examples):
            return (before, after), []
    return ("", ""), [f"what is asked is passed on as it is: ask as `slmbench show task {task.name}` shows it"]
