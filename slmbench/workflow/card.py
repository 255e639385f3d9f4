"""Cards of what lies somewhere: facts gathered from its records, its runs and the declarations, then written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from slmbench.cards import (
    CardBase,
    CardData,
    CardFacts,
    CardFiles,
    Licensed,
    Relation,
    is_hub_id,
    planned_upload,
    push,
    refuse_push,
    strictest,
    write_card,
)
from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.foreign import Limits, read_object
from slmbench.leaderboard import LoadedRuns, ScoredRun, read_runs
from slmbench.leaderboard.texts import count, size
from slmbench.models import AdapterInfo
from slmbench.paths import shown
from slmbench.runs import TRAINING, TrainedBase
from slmbench.schema import DatasetSpec, ModelSpec, RecipeSpec, TaskSpec, parse
from slmbench.values import JsonObject
from slmbench.visible import visible
from slmbench.workflow.card_scores import measured
from slmbench.workflow.card_subjects import Subject, runs_near, subjects_of
from slmbench.workflow.cite import cite
from slmbench.yamlfile import read_yaml

_LIMITS = Limits(bytes=200_000_000)
_GGUF_LORA = "gguf-lora"
_NOT_SHOWN = ("kind", "published", "sweep", "variants", "prompts")


@frozen(kw_only=True)
class CardPlan:
    """What is asked for. out: where README.md goes; None for the folder itself. runs: in place of those nearby."""

    place: str
    out: str | None = None
    runs: tuple[str, ...] = ()
    force: bool = False


@frozen(kw_only=True)
class PushPlan:
    """Where a card goes. records: training.json and its like go along. dry: it is only said."""

    repo: str
    public: bool = False
    records: bool = False
    dry: bool = False


@frozen
class WrittenCard:
    """A card that was written. runs: how many of its own it shows."""

    subject: Subject
    facts: CardFacts
    files: CardFiles
    runs: int = 0

    @property
    def paths(self) -> list[str]:
        return [shown(os.path.join(self.files.folder, name)) for name in self.files.names]

    def as_json(self) -> JsonObject:
        """For `--json`."""
        base, facts = self.facts.base, self.facts
        return {
            "name": facts.name,
            "kind": facts.kind,
            "folder": self.files.folder,
            "files": list(self.files.names),
            "base_model": None if base is None else base.hub,
            "library_name": facts.library,
            "license": facts.licence.license,
            "license_why": facts.licence.why,
            "datasets": [one.hub for one in facts.data if one.hub is not None],
            "runs": self.runs,
            "scores": [one.as_json() for one in facts.scores],
            "no_result_file": list(self.files.left_out),
            "limits": list(facts.limits),
        }


def write_cards(plan: CardPlan, catalog: Catalog, upload: PushPlan | None = None) -> list[WrittenCard]:
    """Writes the card of each adapter, model or run that the place means, and returns them.

    upload: where the cards go afterwards; nothing is written if that can't be.
    All facts are gathered before the first file is written. Raises UsageError if the place means nothing, or if
    somebody else wrote a README.md there; FileError for records that don't hold; SlmbenchError for a full disk.
    """
    subjects = subjects_of(plan.place)
    if upload is not None and len(subjects) > 1:
        raise UsageError(f"--push takes one card, and {shown(plan.place)} has {len(subjects)}; name one of them")
    if upload is not None and not upload.dry:
        refuse_push(upload.repo)
    if plan.out is None and (lost := next((one for one in subjects if one.folder is None), None)) is not None:
        raise UsageError(f"{plan.place} is of {visible(lost.name)!r}, which doesn't lie beside it; give --out DIR")
    read: dict[tuple[str, ...], LoadedRuns] = {}
    ready = []
    for subject in subjects:
        near = runs_near(subject)
        places = plan.runs or ((near,) if near is not None else ())
        if places not in read:
            with phase("reading runs"):
                read[places] = read_runs([Path(place) for place in places], catalog) if places else LoadedRuns(())
            for folder in read[places].left_out:
                say(f"{visible(folder.name)}: left out, as it is not what it claims (`slmbench runs verify`)")
        ready.append((subject, *gather(subject, read[places], catalog)))
    made = []
    for subject, facts, runs in ready:
        out = plan.out if plan.out is not None else str(subject.folder)
        out = os.path.join(out, subject.name) if plan.out is not None and len(subjects) > 1 else out
        made.append(WrittenCard(subject, facts, write_card(facts, out, force=plan.force), runs))
    return made


def push_card(card: WrittenCard, plan: PushPlan) -> JsonObject:
    """Says what goes to the hub, then uploads it unless the plan is dry; {repo, files, bytes, commit} for `--json`."""
    names, place = card.files.names, card.files.folder
    upload = planned_upload(plan.repo, card.subject.folder, names, place, public=plan.public, records=plan.records)
    for line in upload.lines():
        say(line)
    given = card.subject.info.config.base_model_name_or_path if card.subject.info is not None else None
    if given is not None and not is_hub_id(given):
        say(f"note: adapter_config.json names the base as {given}, where nobody else has it; the card names the hub's")
    commit = None if plan.dry else push(upload)
    files = {one.name: one.bytes for one in upload.files}
    return {"repo": plan.repo, "public": plan.public, "files": files, "bytes": upload.bytes, "commit": commit}


def gather(subject: Subject, loaded: LoadedRuns, catalog: Catalog) -> tuple[CardFacts, int]:
    """(what the card of a subject says, of how many runs of its own)."""
    base = _base(subject, catalog)
    mine, limits = subject.mine(loaded), []
    if subject.kind == "export" and not mine and (mine := subject.before_export(loaded)):
        limits.append(
            "scores are those of the adapter on its base, before it was exported; what lies here was not scored"
        )
    named = _base_name(subject)
    beside = {run.run_id: run for one in mine for run in subject.of_base(one, loaded, named)}
    found = measured(mine, list(beside.values()), catalog)
    if found.scores and not beside and subject.kind != "evaluation":
        limits.append("no run of its base lies beside its own, so that there is nothing to compare it with")
    training = subject.training
    tasks = _tasks(subject)
    data = tuple(_data_of(task, catalog) for task in tasks)
    licensed = _licensed(base, data, catalog)
    facts = CardFacts(
        kind=subject.kind,
        name=subject.name,
        base=base,
        relation=_relation(subject),
        architecture=_architecture(subject),
        files=_files(subject),
        licence=strictest(licensed),
        licensed=licensed,
        data=data,
        training=training,
        recipe=None if training is None else _recipe(subject),
        parts=_parts(subject),
        made=_made(subject, mine),
        scores=found.scores,
        limits=(*limits, *found.limits, *_notices(subject), *_base_limits(subject, base)),
        citations=_citations(subject, [*tasks, *(run.task for run in mine)], catalog),
        engines=found.engines,
        evaluated_on=found.machines,
        format=_format(subject),
        tags=_tags(subject),
    )
    return facts, len(mine)


def _base(subject: Subject, catalog: Catalog) -> CardBase | None:
    training = subject.training
    told: TrainedBase | None = None
    if training is not None:
        told = training.base
    elif subject.merge is not None and subject.merge.base is not None:
        told = TrainedBase(**subject.merge.base.model_dump(exclude={"sha256", "files"}))
    elif subject.export is not None:
        model = subject.export.model
        return _known(model.name, model.id if is_hub_id(model.id) and not os.path.exists(model.id) else None, catalog)
    elif subject.info is not None:
        given = subject.info.config.base_model_name_or_path
        return None if not given else _known(given, given if is_hub_id(given) else None, catalog)
    if told is not None:
        return _known(told.name, told.location if is_hub_id(told.location) else None, catalog, told.twin)
    if subject.run is None:
        return None if training is None or training.model is None else _known(training.model, None, catalog)
    return _known(subject.name, None, catalog)


def _known(name: str, hub: str | None, catalog: Catalog, twin: bool = False) -> CardBase:
    """A base by its name, with the hub's id of it if its place is one or the registry knows it."""
    plain = name.removesuffix("-twin") if twin else name
    spec = _model(plain, catalog)
    hub = hub or (spec.hub if spec is not None else None)
    shown = name if spec is not None or is_hub_id(name) else os.path.basename(os.path.abspath(name))
    return CardBase(shown, hub, spec is not None, twin)


def _model(name: str, catalog: Catalog) -> ModelSpec | None:
    path = catalog.files("models").get(name)
    with suppress(SlmbenchError):
        return None if path is None else parse(ModelSpec, read_yaml(path))
    return None


def _base_name(subject: Subject) -> str | None:
    if subject.training is not None:
        return subject.training.model
    if subject.merge is not None:
        return None if subject.merge.base is None else subject.merge.base.name
    return None if subject.export is None else subject.export.model.name


def _tasks(subject: Subject) -> list[str]:
    """All that it was trained on, in its own training and in those that it went on from or was merged of."""
    found: list[str] = []
    if subject.training is not None:
        found += subject.training.tasks
        found += subject.training.init_adapter.tasks if subject.training.init_adapter is not None else []
    if subject.merge is not None:
        found += [task for one in subject.merge.inputs for task in one.tasks or ()]
    if subject.export is not None:
        found += subject.export.tasks
    return list(dict.fromkeys(found))


def _data_of(task: str, catalog: Catalog) -> CardData:
    path = catalog.files("tasks").get(task)
    with suppress(SlmbenchError):
        if path is not None:
            spec = parse(TaskSpec, read_yaml(path))
            named = spec.dataset if isinstance(spec.dataset, str) else None
            made = parse(DatasetSpec, read_yaml(catalog.find("datasets", named))) if named is not None else spec.dataset
            if isinstance(made, DatasetSpec):
                hub = made.hub if is_hub_id(made.hub) else None
                return CardData(task, named or made.hub or task, hub, made.license or spec.license)
    return CardData(task, None, None, None)


def _licensed(base: CardBase | None, data: Iterable[CardData], catalog: Catalog) -> tuple[Licensed, ...]:
    """The base and each data set, each once."""
    found: dict[str, Licensed] = {}
    if base is not None:
        spec = _model(base.name.removesuffix("-twin") if base.twin else base.name, catalog)
        found[base.name] = Licensed(f"base {base.hub or base.name}", spec.license if spec is not None else None)
    for one in data:
        what = one.hub or one.dataset or f"the rows of {one.task}"
        found.setdefault(what, Licensed(f"data {what}", one.license))
    return tuple(found.values())


def _relation(subject: Subject) -> Relation | None:
    if subject.export is not None and subject.export.target == _GGUF_LORA:
        return "adapter"
    relations: dict[str, Relation] = {"adapter": "adapter", "model": "finetune", "export": "finetune", "merge": "merge"}
    return relations.get(subject.kind)


def _architecture(subject: Subject) -> str:
    if subject.training is not None and subject.training.architecture is not None:
        return subject.training.architecture
    if subject.info is not None and "SEQ_2_SEQ" in str(subject.info.config.task_type):
        return "seq2seq"
    return "causal"


def _files(subject: Subject) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(subject.folder))) if subject.folder is not None else ()


def _recipe(subject: Subject) -> str:
    """The recipe as it was run, as YAML that `slmbench train` takes where it is one of its own time."""
    # The record as a value leaves out what nothing reads again.
    said = read_object(os.path.join(str(subject.folder), TRAINING), _LIMITS).get("settings")
    told = {key: value for key, value in said.items() if key not in _NOT_SHOWN} if isinstance(said, dict) else {}
    try:
        spec = RecipeSpec.model_validate(told)
    except ValueError:  # An earlier one, or one whose adapter goes on from another of the same recipe.
        return _yaml(told)
    told = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return _yaml(told)


def _yaml(value: object) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110))


def _parts(subject: Subject) -> tuple[str, ...]:
    if subject.merge is None:
        return ()
    return (f"merged: {subject.merge.told}",)


def _made(subject: Subject, mine: Sequence[ScoredRun]) -> dict[str, str]:
    info, found = subject.info, {}
    if info is not None:
        found["adapter"] = _adapter_words(info)
        found["sha256, weights and config"] = info.sha256
    if subject.export is not None:
        for one in subject.export.gguf:
            found[one.file] = ", ".join(filter(None, (one.kind, f"sha256 {one.sha256}" if one.sha256 else "")))
        found["exported as"] = ", ".join(filter(None, (subject.export.target, subject.export.dtype)))
    if subject.kind == "evaluation" and mine and (adapter := mine[-1].record.get("adapter")):
        found["adapter"] = str(adapter.get("name"))
    return found


def _adapter_words(info: AdapterInfo) -> str:
    rank = f"rank {info.rank}" if info.rank is not None else ""
    words = [info.kind, rank, f"{count(info.parameters)} parameters", size(info.bytes)]
    return ", ".join(word for word in words if word)


def _base_limits(subject: Subject, base: CardBase | None) -> list[str]:
    if base is None:
        return ["nothing says on which base it was made"]
    if base.hub is None and not base.twin and subject.kind == "adapter":
        return [f"its base, {base.name}, has no id on the hub that is known: whoever takes it has to have that, too"]
    return []


def _notices(subject: Subject) -> tuple[str, ...]:
    found = subject.training.notices if subject.training is not None else None
    found = found or (subject.merge.notices if subject.merge is not None else None)
    return tuple(found or (subject.export.notices if subject.export is not None else ()))


def _citations(subject: Subject, tasks: Iterable[str], catalog: Catalog) -> list[str]:
    """BibTeX of the base, of all tasks that it was trained or scored on, and of how it was trained."""
    wanted = [("models", _base_name(subject)), *(("tasks", task) for task in dict.fromkeys(tasks))]
    names = [name for kind, name in wanted if name is not None and name in catalog.files(kind)]
    method = subject.training.method if subject.training is not None else None
    try:
        return [one.bibtex for one in cite(names, catalog, methods=[method] if method is not None else [])]
    except SlmbenchError as error:
        say(f"note: the card cites slmbench alone: {error}")
        return [one.bibtex for one in cite([], catalog)]


def _format(subject: Subject) -> str | None:
    if subject.training is not None:
        return subject.training.settings.format
    if subject.merge is not None:
        return subject.merge.format
    return None if subject.export is None else subject.export.format


def _tags(subject: Subject) -> tuple[str, ...]:
    lora = subject.info is not None and subject.info.kind == "LORA"
    if lora or (subject.export is not None and subject.export.target == _GGUF_LORA):
        return ("lora",)
    return ("merge",) if subject.kind == "merge" else ()
