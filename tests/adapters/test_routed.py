"""Several adapters on the same tasks: one after another from one bank, and each item to the one chosen for it."""

from __future__ import annotations

import pickle

import pytest
from attrs import frozen

import slmbench
from slmbench.adapters import AdapterBank
from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import EvaluationOptions, Routed, evaluate_tasks
from slmbench.models import load_model, resolve_model
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, ready_evaluation
from slmbench.workflow.rank import rank
from tests.nearly import check_scores

TASKS = ("nano_choice", "nano_note")
LIMIT = 6


@frozen
class By:
    """A choice that a test makes. of: task -> adapters, taken in turn."""

    of: dict[str, tuple[str | None, ...]]
    name: str = "auto"
    sha256: str = "5eed" * 16

    def choose(self, task, examples):
        names = self.of[task.name]
        return [names[at % len(names)] for at in range(len(examples))]


class Short(By):
    def choose(self, task, examples):
        return super().choose(task, examples[:1])


ORACLE = By({"nano_choice": ("one",), "nano_note": ("two",)}, "oracle")
MIXED = By({"nano_choice": ("one", "two", None), "nano_note": ("two", None, "one")})


@pytest.fixture(scope="module")
def folders(make):
    return make("one", r=8), make("two", seed=1, modules_to_save=["norm"])


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """(row, task) -> its run: base, both adapters, and each item by its own, in one call."""
    return _runs(str(tmp_path_factory.mktemp("out")), folders, (ORACLE, MIXED))


def _runs(out, folders, choices, **more):
    options = EvaluationOptions(out=out, limit=LIMIT)
    plan = EvaluationPlan(model="nano", options=options, tasks=TASKS, adapters=folders, choices=choices, **more)
    plan, tasks = ready_evaluation(pickle.loads(pickle.dumps(plan)), default_catalog())
    found = evaluate_plan(plan, tasks, default_catalog())
    return {((run.record["adapter"] or {}).get("name"), run.record["task"]["id"]): run for run in found}


def _told(run):
    """What a run says, its times and ids left out."""
    record = {key: run.record[key] for key in ("comparability_key", "prompts_sha256", "model", "adapter", "metrics")}
    timed = ("latency_ms", "compute_ms")
    return record, [{key: value for key, value in one.items() if key not in timed} for one in run.samples()]


def test_adapters_from_one_bank_have_the_runs_that_each_has_alone(runs, folders, tmp_path):
    for at, name in enumerate(("one", "two")):
        alone = load_model(resolve_model("nano", default_catalog()), folders[at])
        options = EvaluationOptions(out=str(tmp_path / name), limit=LIMIT, format="plain")
        for run in evaluate_tasks(alone, [slmbench.load_task(task) for task in TASKS], options):
            ours = runs[name, run.record["task"]["id"]]
            assert ours.run_id == run.run_id and _told(ours) == _told(run)


def test_what_the_oracle_routes_scores_exactly_what_the_adapters_own_runs_score(runs):
    for task, own in (("nano_choice", "one"), ("nano_note", "two")):
        routed, alone = runs["oracle", task], runs[own, task]
        assert routed.record["metrics"] == alone.record["metrics"]
        assert routed.record["comparability_key"] == alone.record["comparability_key"]
        assert routed.record["prompts_sha256"] == alone.record["prompts_sha256"]
        assert [{k: v for k, v in one.items() if k != "adapter"} for one in _told(routed)[1]] == _told(alone)[1]
        assert {one["adapter"] for one in routed.samples()} == {own}
        assert routed.run_id != alone.run_id


def test_each_item_is_answered_by_its_own_adapter_and_says_by_which(runs):
    for task in TASKS:
        names = MIXED.of[task]
        for at, sample in enumerate(runs["auto", task].samples()):
            own = runs[names[at % 3], task].samples()[at]
            assert sample["adapter"] == names[at % 3]
            assert sample["output"] == own["output"]
            check_scores(sample["scores"], own["scores"])
            if sample["loglikelihoods"]:  # Others share the prefix in another way: what rounding leaves.
                assert sample["loglikelihoods"] == pytest.approx(own["loglikelihoods"], abs=1e-4)
        assert "adapter" not in runs[None, task].samples()[0]
    assert runs["auto", "nano_choice"].record["metrics"] != runs["oracle", "nano_choice"].record["metrics"]


def test_a_routed_runs_record_names_who_chose_and_among_what(runs, folders, tmp_path):
    one, two, auto = (runs[name, "nano_note"].record["adapter"] for name in ("one", "two", "auto"))
    assert auto["sha256"] == MIXED.sha256 and auto["choices"] == {"one": one["sha256"], "two": two["sha256"]}
    assert auto["parameters"] == one["parameters"] + two["parameters"] and "choices" not in one
    # Another choice, and the same one among other adapters, are other runs.
    other = _runs(str(tmp_path), folders, (By(MIXED.of, sha256="0dd" * 21),), alone=False, base=False)
    fewer = By({"nano_choice": ("one", None), "nano_note": (None,)})
    less = _runs(str(tmp_path), folders[:1], (fewer,), alone=False, base=False)
    assert set(other) == set(less) == {("auto", task) for task in TASKS}
    ids = {found["auto", "nano_note"].run_id for found in (runs, other, less)}
    assert len(ids) == 3


def test_a_routed_run_that_was_cut_off_goes_on_from_its_journal(runs, folders, tmp_path, monkeypatch):
    from slmbench.evaluation import _routed

    asked: list[tuple[str | None, int]] = []
    real = _routed.RoutedEngine._each

    def counted(self, requests, compute):
        asked.extend((self.chosen.of[one.item], 1) for one in requests)
        for at, found in enumerate(real(self, requests, compute)):
            if cut and at == 5:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(_routed.RoutedEngine, "_each", counted)
    cut = True
    with pytest.raises(KeyboardInterrupt):
        _runs(str(tmp_path), folders, (MIXED,), alone=False, base=False)
    first, cut = len(asked), False
    again = _runs(str(tmp_path), folders, (MIXED,), alone=False, base=False)
    whole = LIMIT + sum(len(one["choices"]) for one in again["auto", "nano_choice"].samples())
    assert len(asked) - first == whole - 5
    for task in TASKS:
        for one, other in zip(again["auto", task].samples(), runs["auto", task].samples(), strict=True):
            check_scores(one["scores"], other["scores"])
    before = len(asked)
    assert _runs(str(tmp_path), folders, (MIXED,), alone=False, base=False) == again and len(asked) == before


def test_a_journals_key_has_who_chose_and_what_was_chosen(nano, folders):
    from slmbench.evaluation._journaled import build_engine
    from slmbench.formats import load_format

    task = slmbench.load_task("nano_note")
    plain, asked = load_format("plain"), ("generate_until", ("Note:", {"until": []}))
    keys = set()
    with AdapterBank(nano) as bank:
        bank.add("one", folders[0]), bank.add("two", folders[1])
        for sha256 in ("5eed" * 16, "0dd" * 21):
            chosen = Routed(bank, By(MIXED.of, sha256=sha256)).chosen([(task, task.examples("test", 3))])
            engine = build_engine(nano, plain, bank=bank, chosen=chosen)
            keys |= {engine.key(*asked, ("nano_note", at))[0] for at in range(3)}
        alone = build_engine(nano, plain)
        assert alone.key(*asked, ("nano_note", 0)) == alone.key(*asked, ("nano_note", 1))
    assert len(keys) == 6 and alone.key(*asked, ("nano_note", 0))[0] not in keys


def test_choices_that_mean_nothing_are_named(nano, make, folders, tmp_path):
    from transformers import AutoTokenizer

    tasks = [slmbench.load_task("nano_choice")]
    options = EvaluationOptions(out=str(tmp_path), limit=3, format="plain")
    with AdapterBank(nano) as bank:
        bank.add("one", folders[0])
        for choice, message in (
            (By({"nano_choice": ("ones",)}), "auto chose adapter 'ones' for task 'nano_choice', .* mean 'one'"),
            (By({}, "one"), "an adapter is called 'one' as the choice"),
        ):
            with pytest.raises(UsageError, match=message):
                evaluate_tasks(nano, tasks, options, routed=Routed(bank, choice))
        with pytest.raises(SlmbenchError, match="auto chose 1 adapters for 3 items of 'nano_choice'"):
            evaluate_tasks(nano, tasks, options, routed=Routed(bank, Short({"nano_choice": ("one",)})))
        own = AutoTokenizer.from_pretrained(nano.source.location)
        own.eos_token = own.convert_ids_to_tokens(10)
        bank.add("own", make("own", tokenizer=own))
        with pytest.raises(UsageError, match="adapter 'own' has a tokenizer of its own"):
            Routed(bank, MIXED)
    again = make("one", seed=3)
    with pytest.raises(UsageError, match=r"two adapters of one name: .*; oracle chooses by names"):
        _runs(str(tmp_path), (*folders, again), (ORACLE,))
    assert set(_runs(str(tmp_path), (folders[0], again), (), base=False)) == {("one", task) for task in TASKS}


def test_the_page_says_who_answered(runs, tmp_path):
    board, _, _ = rank([run.folder for run in runs.values()], str(tmp_path), default_catalog(), suite=None, tasks=TASKS)
    assert {row.name for row in board.rows} >= {"nano", "nano + one", "nano + two", "nano + oracle", "nano + auto"}
    pages = "\n".join(path.read_text() for path in tmp_path.rglob("wrote-*.js"))
    assert pages.count("answered by") == 4 * LIMIT and "the base" in pages
