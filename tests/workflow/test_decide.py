"""Evaluations that end when it is decided: a real model, whose answers in one format are right and in another wrong."""

import json
import shutil

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.console import watching
from slmbench.errors import UsageError
from slmbench.evaluation import drawn
from slmbench.leaderboard import RunProblems, build_leaderboard, load_runs
from slmbench.runs import verify
from slmbench.task import load_task_folder
from slmbench.values import Example

TASK = """\
summary: What nano writes after a sum, in the plain format.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [question, answer, group]}
kind: generate
train_split: null
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
generation: {max_tokens: 4, stop: ["\\n"]}
metrics: [exact_match, rouge]
"""
N = 40


def write_task(folder, answers, version=TASK):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(version)
    rows = [
        {"question": f"{i} + {i * 7 % 11} = ?", "answer": answer, "group": f"g{i // 2}"}
        for i, answer in enumerate(answers)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task_folder(str(folder), default_catalog())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of the task, an output folder with the whole run in chat, which gets nothing right)."""
    folder = tmp_path_factory.mktemp("decide")
    first = write_task(folder / "tasks" / "own", ["x"] * N)
    (run,) = slmbench.evaluate("nano", first, out=str(folder / "first"))
    write_task(folder / "tasks" / "own", [sample["output"].strip() or "-" for sample in run.samples()])
    task = load_task_folder(str(folder / "tasks" / "own"), default_catalog())
    (chat,) = slmbench.evaluate("nano", task, out=str(folder / "out"), format="chat")
    return folder, chat


@pytest.fixture
def task(made):
    return load_task_folder(str(made[0] / "tasks" / "own"), default_catalog())


@pytest.fixture
def out(made, tmp_path):
    shutil.copytree(made[0] / "out", tmp_path / "out")
    return tmp_path / "out"


def decide(task, out, against, **options):
    (run,) = slmbench.evaluate("nano", task, out=str(out), against=str(against), until="decided", **options)
    return run


def test_targets_are_asked_of_the_items_that_were_drawn(made, task, out):
    run = decide(task, out, out / "runs" / made[1].run_id, perplexity=True)
    (whole,) = slmbench.evaluate("nano", task, out=str(out), perplexity=True)
    likely = {row["item_id"]: row["target_loglikelihood"] for row in whole.samples()}
    rows = list(run.samples())
    assert 0 < len(rows) == run.record["stopped"]["n"] < N == len(likely)
    assert all(row["target_loglikelihood"] == likely[row["item_id"]] for row in rows)


def test_a_run_ends_when_it_is_decided_and_goes_on_when_it_is_asked(made, task, out, capsys):
    chat = out / "runs" / made[1].run_id
    run = decide(task, out, chat)
    decision = run.record["stopped"]
    assert run.decision == decision
    assert (decision["verdict"], decision["by"], decision["against"]) == ("better", "sequence", made[1].run_id)
    n = decision["n"]
    assert n < 20 and decision["total"] == N and run.record["dataset"]["n"] == n
    assert decision["wins"] + decision["losses"] + decision["ties"] == n
    assert decision["ci_lo"] > 0 and decision["p"] <= 0.05
    # Its samples are the first of the order, in that order.
    examples = task.examples("test")
    order = [examples[place].id for draw in drawn(examples, 0) for place in draw]
    assert [sample["item_id"] for sample in run.samples()] == order[:n]
    verify(run.folder, run.record, {}.__getitem__)
    said = capsys.readouterr().err
    assert f"own: nano (plain) is better than nano (chat), after {n} of {N} items" in said
    assert f"{N - n} items not asked" in said
    # On a leaderboard it stands beside chat, under its own condition, and nothing is said of the run that it is of.
    runs, notices = load_runs(out)
    assert not notices and len(runs) == 2
    (cell,) = (
        row.cells["own@plain/exact_match"]
        for row in build_leaderboard(runs).rows
        if "own@plain/exact_match" in row.cells
    )
    assert cell.badges == (f"stopped at {n} (decided)",) and cell.rank_low is None

    # The same again is that run; without --until, the whole set with the rest computed alone.
    with watching(lambda what, more: pytest.fail("an answer was computed again")):
        assert decide(task, out, chat).record == run.record
    (whole,) = slmbench.evaluate("nano", task, out=str(out))
    assert whole.run_id == decision["whole"] and "stopped" not in whole.record
    assert n <= whole.record["cost"]["n_resumed"] < N
    (fresh,) = slmbench.evaluate("nano", task, out=str(out / "fresh"))
    assert [sample["scores"] for sample in fresh.samples()] == [sample["scores"] for sample in whole.samples()]
    # And with it there, the decision is made of what is there.
    again = decide(task, out, chat)
    assert again.record == whole.record and again.decision == decision


def test_a_stopped_run_is_compared_on_what_both_have(made, task, out):
    plain = decide(task, out, out / "runs" / made[1].run_id)
    n = plain.record["stopped"]["n"]
    # The other way round: as many losses as there were wins.
    worse = decide(task, out, plain.folder, format="toon")
    assert worse.decision["verdict"] == "worse" and 9 <= worse.decision["n"] <= n
    # One that answers the same is told apart by nothing, and the other one's items are over.
    same = decide(task, out, plain.folder, batch=2)
    assert (same.decision["verdict"], same.decision["ties"], same.decision["n"]) == ("undecided", n, n)
    assert {run.badges for run in load_runs(out)[0] if run.run_id == same.run_id} == {(f"stopped at {n} (undecided)",)}


def test_a_set_that_ends_undecided_is_a_whole_run(task, out):
    (plain,) = slmbench.evaluate("nano", task, out=str(out))
    run = decide(task, out, plain.folder, batch=2, margin=0.13)
    assert (run.decision["verdict"], run.decision["by"]) == ("equal", "all items")
    assert "stopped" not in run.record and run.record["dataset"]["n"] == N
    assert [sample["item_id"] for sample in run.samples()] == [one.id for one in task.examples("test")]


def test_a_race_that_was_killed_goes_on(made, task, out, tmp_path):
    chat, seen = out / "runs" / made[1].run_id, []

    def kill(what, more):
        seen.append(what)
        if seen.count("answers") == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watching(kill):
        decide(task, out, chat)
    run = decide(task, out, chat)
    other = decide(task, tmp_path / "elsewhere", chat)
    assert run.record["cost"]["n_resumed"] >= 4 and other.record["cost"]["n_resumed"] == 0
    assert run.decision == other.decision and run.run_id == other.run_id


def test_clusters_are_drawn_whole_and_the_order_is_of_the_items_alone():
    examples = [Example(str(i), {}, "", cluster=f"c{i // 3}" if i < 12 else None) for i in range(20)]
    order = drawn(examples, 0)
    assert sorted(map(len, order)) == [1] * 8 + [3] * 4
    assert all(len({examples[place].cluster for place in draw}) == 1 for draw in order)
    # Of half of the items, in any order, it is the same order.
    some = [one for one in reversed(examples) if one.cluster is None or int(one.cluster[1]) % 2]

    def names(of, draws):
        return [of[draw[0]].cluster or of[draw[0]].id for draw in draws]

    kept = {one.cluster or one.id for one in some}
    assert names(some, drawn(some, 0)) == [name for name in names(examples, order) if name in kept]
    assert names(examples, drawn(examples, 1)) != names(examples, order)


def test_a_cluster_is_asked_whole_and_an_item_in_it_is_no_draw_of_its_own(made, tmp_path):
    rows = (made[0] / "tasks" / "own" / "test.jsonl").read_text().splitlines()
    clustered = TASK.replace("metrics:", 'cluster: "{{ group }}"\nmetrics:')
    task = write_task(tmp_path / "own", [json.loads(row)["answer"] for row in rows], clustered)
    (chat,) = slmbench.evaluate("nano", task, out=str(tmp_path), format="chat")
    run = decide(task, tmp_path, chat.folder)
    labels = [sample["cluster_id"] for sample in run.samples()]
    assert run.decision["verdict"] == "better" and 18 <= len(labels) < N
    assert labels[::2] == labels[1::2] and len(set(labels)) == len(labels) / 2


CODE = """\
summary: Small functions, drawn twice.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [prompt, solution, test]}
kind: code
train_split: null
prompt: {user: "{{ prompt }}", delimiter: ""}
answer: "{{ solution }}"
code: {program: "{{ prompt }}{{ completion }}", tests: "{{ test }}"}
generation: {max_tokens: 6, samples: 2, temperature: 1.0}
metrics: [pass@1]
"""


def test_drawn_texts_of_a_problem_are_the_same_in_whatever_order_problems_are_asked(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "task.yaml").write_text(CODE)
    names = [f"f{i}" for i in range(4)]
    rows = [{"prompt": f"def {f}(x):\n", "solution": "    return x\n", "test": f"assert {f}(1) == 1"} for f in names]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task_folder(str(folder), default_catalog())
    (greedy,) = slmbench.evaluate("nano", task, out=str(tmp_path / "a"), samples=1, allow_unsafe_code=True)
    raced = decide(task, tmp_path / "a", greedy.folder, allow_unsafe_code=True)
    (whole,) = slmbench.evaluate("nano", task, out=str(tmp_path / "b"), allow_unsafe_code=True)
    # No program passes, so nothing is decided: a problem is one tie, whatever its samples.
    assert (raced.decision["verdict"], raced.decision["ties"], raced.decision["n"]) == ("undecided", 4, 4)
    texts = [
        [(sample["item_id"], sample["epoch"], sample["output"]) for sample in run.samples()] for run in (raced, whole)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 8
    assert len({text for _, _, text in texts[0]}) > 4


def test_flags_that_dont_go_together_are_told_at_once(task, tmp_path):
    with pytest.raises(UsageError) as told:
        slmbench.evaluate("nano", task, out=str(tmp_path), until="soon", margin=-1.0, limit=3)
    for said in ("until is 'soon'", "against whom", "--margin is -1", "--limit 3"):
        assert said in str(told.value)
    with pytest.raises(UsageError, match="--against x: no such folder, and no runs in"):
        slmbench.evaluate("nano", task, out=str(tmp_path), against="x")


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        ("another task", UsageError, r"no finished run of task 'nano_choice'; known: own"),
        ("fewer items", UsageError, r"has 40 items, task 'own' here has 39, and it has others"),
        ("more items", UsageError, r"it lacks 1 of these, as 'test-40'"),
        ("other rows", UsageError, r"the rows have changed since"),
        ("edited", RunProblems, r"run\.json.*was changed|record_sha256|sha256"),
        ("limit", UsageError, r"of the first 4 items alone"),
        ("nowhere", UsageError, r"no row 'nowhere'|no such folder, and no runs in"),
        ("margin", UsageError, r"--margin is 1\.5; 'exact_match' is from 0 to 1"),
        ("two", UsageError, r"2 runs of task 'own' that differ in model or condition; give one of them"),
    ],
)
def test_a_run_that_it_cant_be_compared_with_is_told_before_a_model_is_loaded(
    made, task, out, tmp_path, monkeypatch, harm, error, message
):
    against, margin = str(out / "runs" / made[1].run_id), None
    rows = [json.loads(line) for line in (made[0] / "tasks" / "own" / "test.jsonl").read_text().splitlines()]
    if harm == "another task":
        task = slmbench.load_task("nano_choice")
    elif harm in ("fewer items", "more items", "other rows"):
        answers = [row["answer"] for row in rows]
        changed = {"fewer items": answers[:-1], "more items": [*answers, "1"], "other rows": ["other", *answers[1:]]}
        task = write_task(tmp_path / "own", changed[harm])
    elif harm == "edited":
        path = out / "runs" / made[1].run_id / "run.json"
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    elif harm == "limit":
        (limited,) = slmbench.evaluate("nano", task, out=str(tmp_path / "limited"), limit=4)
        against = limited.folder
    elif harm == "nowhere":
        against = "nano__own__0000000000"
    elif harm == "margin":
        margin = 1.5
    elif harm == "two":
        slmbench.evaluate("nano", task, out=str(out))
        against = str(out)
    monkeypatch.setattr("slmbench.workflow.held.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(error, match=message):
        slmbench.evaluate("nano", task, out=str(tmp_path / "new"), against=against, until="decided", margin=margin)


def test_what_may_be_wrong_is_shared_by_all_comparisons_of_a_call(made, task, out, tmp_path, capsys):
    alone = decide(task, out, made[1].folder)
    write_task(tmp_path / "other", [example.answer for example in task.examples("test")])
    other = load_task_folder(str(tmp_path / "other"), default_catalog())
    (chat,) = slmbench.evaluate("nano", other, out=str(out), format="chat")
    both = slmbench.evaluate(
        "nano", [task, other], out=str(out), against=[made[1].folder, chat.folder], until="decided"
    )
    assert [run.decision["alpha"] for run in both] == [0.025, 0.025] and alone.decision["alpha"] == 0.05
    # It takes an e-value of 50 in place of 25, which is one win more.
    assert both[0].decision["n"] > alone.decision["n"]
    assert all(run.decision["e_value"] >= 50 > alone.decision["e_value"] for run in both)
    assert both[0].run_id != alone.run_id
    said = capsys.readouterr().err
    assert "2 comparisons in one call: each is wrong with probability 0.025 at most" in said
    assert "(50 decides)" in said and "97.5% interval" in said and "95% interval" in said


def test_a_run_against_itself_is_refused(made, task, out):
    with pytest.raises(UsageError, match="it is the run of nano itself"):
        decide(task, out, out / "runs" / made[1].run_id, format="chat")


def test_a_metric_that_no_item_has_is_refused(tmp_path, made):
    task = write_task(tmp_path / "pooled", ["x"] * 5, TASK.replace("[exact_match, rouge]", "[codes_f1, exact_match]"))
    with pytest.raises(UsageError, match=r"made of all items at once.*--metrics exact_match"):
        slmbench.evaluate("nano", task, out=str(tmp_path), against=made[1].folder, until="decided")


def test_the_command_line_says_and_prints_it(made, out, monkeypatch, capsys):
    monkeypatch.setenv("SLMBENCH_PATH", str(made[0] / "tasks"))
    argv = ["eval", "nano", "--tasks", "own", "--out", str(out), "--against", made[1].run_id]
    assert main([*argv, "--margin", ".1"]) == 2
    assert "--margin is for --against RUN --until decided" in capsys.readouterr().err
    assert main([*argv, "--until", "decided", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["decision"] == record["stopped"] and record["decision"]["verdict"] == "better"
