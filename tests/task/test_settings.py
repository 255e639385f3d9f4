"""What a run asks of its tasks beside their declarations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmbench.errors import UsageError
from slmbench.formats import load_format
from slmbench.task import Settings, Task, load_task

MakeTask = Callable[..., Task]

ROWS = [{"question": "q", "answer": "a", "prompt": "p", "solution": "s", "tests": "t"}] * 3
SAMPLED = "generation: {samples: 10, temperature: 0.2, top_p: 0.9, max_tokens: 7}\nmetrics: [pass@1, pass@5, pass@10]"
COT = "answer: '{{ answer }}'\nfewshot: {n: 1}\ncot: {mode: off, instruction: Think., answer: 'So {{ answer }}'}"


@pytest.fixture
def plain(make_task: MakeTask) -> Task:
    return make_task("generate", "answer: '{{ answer }}'\nmetrics: [exact_match, rouge]", ROWS, ROWS, name="plain")


@pytest.fixture
def worked(make_task: MakeTask) -> Task:
    return make_task("generate", COT, ROWS, ROWS, name="worked")


@pytest.fixture
def code(make_task: MakeTask) -> Task:
    return make_task("code", SAMPLED, ROWS, ROWS, name="code")


def metrics(task: Task) -> list[str]:
    return [scorer.name for scorer in task.scorers]


def test_no_settings_leave_every_task_as_it_is(plain: Task, worked: Task, code: Task) -> None:
    adjusted, notices = Settings().of([plain, worked, code])
    assert all(one is other for one, other in zip(adjusted, [plain, worked, code], strict=True))
    assert notices == []


def test_one_sample_is_greedy_and_leaves_out_what_needs_more(code: Task) -> None:
    one = code.with_samples(1)
    generation = one.spec.generation
    assert (generation.samples, generation.temperature, generation.top_p, generation.max_tokens) == (1, 0.0, 1.0, 7)
    assert metrics(one) == ["pass@1"]
    assert metrics(code) == ["pass@1", "pass@5", "pass@10"]


def test_more_samples_are_drawn_at_the_declared_temperature(code: Task) -> None:
    for n in (5, 20):
        generation = code.with_samples(n).spec.generation
        assert (generation.samples, generation.temperature, generation.top_p) == (n, 0.2, 0.9)
    assert metrics(code.with_samples(5)) == ["pass@1", "pass@5"]
    assert metrics(code.with_samples(20)) == ["pass@1", "pass@5", "pass@10"]
    assert code.with_samples(10) is code.with_samples(None) is code


def test_samples_that_no_metric_can_use_or_that_would_be_alike_are_refused(make_task: MakeTask, plain: Task) -> None:
    only = make_task("code", SAMPLED.replace("pass@1, pass@5, ", ""), ROWS)
    with pytest.raises(UsageError, match=r"^task 't': no metric can be computed from 5 samples$"):
        only.with_samples(5)
    greedy = make_task("code", "", ROWS)
    assert greedy.with_samples(1) is greedy
    with pytest.raises(UsageError, match=r"declares no generation\.temperature, so its samples would be alike"):
        greedy.with_samples(2)
    with pytest.raises(UsageError, match=r"^task 'plain' declares no generation\.temperature"):
        plain.with_samples(2)
    with pytest.raises(
        UsageError, match="task 'nano_choice' is of kind choice: it writes nothing, so it has no samples"
    ):
        load_task("nano_choice").with_samples(2)


def test_outputs_are_cut_only_where_the_task_declares_more(make_task: MakeTask, code: Task) -> None:
    yaml = "answer: x\ngeneration: {max_tokens: 8}\ncot: {mode: MODE, answer: y, max_tokens: 64}"
    off, few = (make_task("generate", yaml.replace("MODE", mode), ROWS) for mode in ("off", "few"))
    assert [task.with_max_tokens(32).max_tokens for task in (off, few)] == [8, 32]
    assert [task.with_max_tokens(4).max_tokens for task in (off, few)] == [4, 4]
    # Each mode keeps its own, whichever was asked for first.
    assert few.with_max_tokens(32).with_cot("off").max_tokens == 8
    assert off.with_max_tokens(32).with_cot("few").max_tokens == 32
    assert all(task.with_max_tokens(n) is task for task in (off, few) for n in (None, 64, 1000))
    assert [task.max_tokens for task in Settings(max_tokens=5).of([off, code])[0]] == [5, 5]


def test_a_choice_task_generates_nothing_that_could_be_cut(make_task: MakeTask) -> None:
    task = make_task("choice", "choices: [a, b]\ngold: '0'", ROWS)
    assert task.with_max_tokens(3) is task


def test_metrics_keep_the_declared_order_and_what_is_not_named_goes(plain: Task, code: Task) -> None:
    assert metrics(plain.with_metrics(["rouge"])) == ["rouge"]
    assert metrics(code.with_metrics(["pass@10", "pass@1", "rouge"])) == ["pass@1", "pass@10"]
    assert plain.with_metrics(None) is plain
    with pytest.raises(UsageError, match=r"^task 'plain' has none of the metrics accuracy; it has exact_match, rouge$"):
        plain.with_metrics(["accuracy"])


def test_a_setting_reaches_the_tasks_that_know_it_and_the_others_are_named(
    plain: Task, worked: Task, code: Task
) -> None:
    adjusted, notices = Settings(cot="zero").of([plain, worked, code])
    assert [task.cot for task in adjusted] == ["off", "zero", "off"]
    assert adjusted[0] is plain
    assert adjusted[2] is code
    assert notices == ["--cot leaves plain, code alone: only a task that declares a chain of thought heeds it"]
    adjusted, notices = Settings(samples=1).of([plain, worked, code])
    assert adjusted[:2] == [plain, worked]
    assert adjusted[2].spec.generation.samples == 1
    assert notices == [
        "--samples leaves plain, worked alone: only a task that draws samples (of kind code, or with a temperature) "
        "heeds it",
        "code: pass@5, pass@10 left out: --samples 1 are too few",
    ]


def test_a_setting_that_all_tasks_know_needs_no_notice(worked: Task, code: Task) -> None:
    assert Settings(cot="few").of([worked])[1] == []
    assert Settings(samples=20).of([code])[1] == []
    assert Settings(shots=2).of([worked, code])[1] == []


def test_a_setting_that_no_task_knows_is_refused(plain: Task, worked: Task) -> None:
    with pytest.raises(UsageError, match=r"^--samples: none of these tasks draws samples .*: plain, worked$"):
        Settings(samples=2).of([plain, worked])
    with pytest.raises(UsageError, match=r"^--cot: none of these tasks declares a chain of thought: plain$"):
        Settings(cot="off").of([plain])


def test_metrics_are_taken_from_each_task_that_has_them(plain: Task, worked: Task) -> None:
    adjusted, _ = Settings(metrics=("exact_match",)).of([plain, worked])
    assert [metrics(task) for task in adjusted] == [["exact_match"], ["exact_match"]]
    with pytest.raises(UsageError, match=r"^no task has the metric rogue; they have exact_match, rouge$"):
        Settings(metrics=("exact_match", "rogue")).of([plain, worked])
    # A task without any of them would have nothing to report.
    adjusted, notices = Settings(metrics=("rouge",)).of([plain, worked])
    assert [metrics(task) for task in adjusted] == [["rouge"], ["exact_match"]]
    assert notices == ["--metrics leaves worked alone: they have none of these"]


def test_settings_work_together(worked: Task, code: Task) -> None:
    adjusted, _ = Settings(shots=2, cot="few", samples=5, metrics=("pass@5", "exact_match")).of([worked, code])
    assert [task.shot_count for task in adjusted] == [2, 2]
    assert (adjusted[0].cot, adjusted[1].spec.generation.samples) == ("few", 5)
    assert [metrics(task) for task in adjusted] == [["exact_match"], ["pass@5"]]
    with pytest.raises(UsageError, match="--cot zero asks by an instruction and has no shots"):
        Settings(shots=2, cot="zero").of([worked])


def test_the_digest_tells_settings_apart(make_task: MakeTask, worked: Task, code: Task) -> None:
    # Its own length is the chain of thought's; generation's is no longer than the limit.
    yaml = "answer: x\ngeneration: {max_tokens: 4}\ncot: {answer: y, max_tokens: 64}"
    capped = make_task("generate", yaml, ROWS, name="capped")
    style = load_format("plain")
    changed = [
        code,
        code.with_samples(1),
        code.with_samples(20),
        code.with_shots(1),
        code.with_metrics(["pass@1"]),
        worked,
        worked.with_cot("few"),
        worked.with_shots(0),
        worked.with_max_tokens(5),
        capped,
        capped.with_max_tokens(5),
    ]
    assert len({task.digest(style) for task in changed}) == len(changed)
    assert code.with_samples(1).digest(style) != code.with_metrics(["pass@1"]).digest(style)
