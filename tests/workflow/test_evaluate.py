"""The public names of the package."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import slmbench


def test_import_costs_nothing_heavy():
    code = (
        "import sys, slmbench; print([n for n in ('torch', 'transformers', 'pydantic', 'attrs') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", slmbench.__all__)
def test_every_public_name_is_there(name):
    assert getattr(slmbench, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        slmbench.nope  # noqa: B018


def test_the_public_names_are_shown_before_any_of_them_is_used():
    code = "import slmbench; print([n for n in slmbench.__all__ if n not in dir(slmbench)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_but_the_public_names_is_shown():
    code = "import slmbench; print([n for n in dir(slmbench) if n not in slmbench.__all__ and n[:2] != '__'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_evaluate_takes_names_and_returns_runs(tmp_path):
    (run,) = slmbench.evaluate("nano", ["nano_choice"], out=str(tmp_path), limit=3)
    assert run.record["task"]["id"] == "nano_choice"
    assert len(run.samples()) == 3


def test_evaluate_takes_one_name_or_several_with_commas_or_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (one,) = slmbench.evaluate("nano", "nano_choice", out="out", limit=2)
    several = slmbench.evaluate("nano", tasks="nano_arithmetic, nano_choice", out="out", limit=2)
    (task,) = slmbench.evaluate("nano", slmbench.load_task("nano_choice"), out="out", limit=2)
    assert [run.record["task"]["id"] for run in several] == ["nano_arithmetic", "nano_choice"]
    assert one == task == several[1]
    with pytest.raises(slmbench.SlmbenchError, match="no task to evaluate"):
        slmbench.evaluate("nano", ",", out="out")

    # What a notebook shows of a run: who, on what, how well, how sure, and where.
    metric = one.record["metrics"][0]
    low, high = metric["ci_lo"], metric["ci_hi"]
    assert repr(one) == (
        f"<Run nano on nano_choice: accuracy {metric['value']:.3f} ({low:.3f} to {high:.3f}), n = 2; "
        f"out/runs/{one.run_id}>"
    )
    with_adapter = one.record | {"adapter": {"name": "notes"}, "metrics": [metric | {"method": "none"}]}
    assert repr(type(one)("out/runs/x", with_adapter)) == (
        f"<Run nano + notes on nano_choice: accuracy {metric['value']:.3f}, n = 2; out/runs/x>"
    )


def test_what_is_asked_of_an_evaluation_is_data_that_another_process_can_do(tmp_path):
    from slmbench.evaluation import EvaluationOptions
    from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, ready_evaluation

    plan = EvaluationPlan(
        model="nano", tasks=("nano_choice",), options=EvaluationOptions(out=str(tmp_path / "out"), limit=2)
    )
    sent = pickle.loads(pickle.dumps(plan))
    assert sent == plan
    catalog = slmbench.default_catalog()
    (run,) = evaluate_plan(*ready_evaluation(sent, catalog), catalog)
    assert [run] == slmbench.evaluate("nano", "nano_choice", limit=2, out=str(tmp_path / "out"))


def test_an_adapter_is_put_on_a_loaded_model_for_the_call_alone(tmp_path):
    import peft

    from slmbench.models import load_model, resolve_model

    def scores(**options):
        (run,) = slmbench.evaluate(loaded, "nano_choice", out=str(tmp_path / "out"), limit=2, **options)
        return run.record["adapter"] and run.record["adapter"]["name"], [s["loglikelihoods"] for s in run.samples()]

    loaded = load_model(resolve_model("nano", slmbench.default_catalog()))
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(loaded.model, config)
    model.save_pretrained(str(tmp_path / "notes"))
    model.unload()
    with_adapter, bare = scores(adapter=str(tmp_path / "notes")), scores(seed=1)
    assert (with_adapter[0], bare[0]) == ("notes", None)
    assert with_adapter[1] != bare[1]
    assert not [name for name, _ in loaded.model.named_parameters() if "lora" in name]


WORKED = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}
kind: generate
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
generation: {max_tokens: 4}
cot:
  mode: off
  answer: "So {{ answer }}."
  max_tokens: 6
  shots: [{question: "3+3?", answer: "6", reasoning: "Three and three."}]
metrics: [exact_match]
"""


def test_texts_that_are_withheld_once_stay_off_every_later_page(write_task, tmp_path):
    from slmbench.cli import main

    secret = '{"question": "Mrs Miller?", "answer": "2"}\n'
    write_task("sums", root=tmp_path, test=secret, train=secret)
    task = slmbench.load_task("sums", slmbench.Catalog([str(tmp_path)]))
    out = tmp_path / "out"
    (first,) = slmbench.evaluate("nano", task, out=str(out))
    (again,) = slmbench.evaluate("nano", task, out=str(out), no_texts=True)
    assert again.run_id == first.run_id
    assert main(["leaderboard", str(out)]) == 0
    pages = [path.read_text(encoding="utf-8") for path in (out / "leaderboard").rglob("*.*")]
    assert not [page for page in pages if "Mrs Miller" in page] and any(
        "kept out of this page" in page for page in pages
    )


def test_evaluate_takes_what_is_asked_in_place_of_the_declared(write_task, tmp_path):
    write_task("worked", WORKED)
    catalog = slmbench.Catalog([str(tmp_path)])
    task = slmbench.load_task("worked", catalog)

    def record(**options):
        (run,) = slmbench.evaluate("nano", [task], out=str(tmp_path / "out"), **options)
        return run

    plain, worked, shown, toon = record(), record(cot="few"), record(shots=2), record(format="toon")
    assert [run.record["cot"] for run in (plain, worked, shown)] == ["off", "few", "off"]
    assert [run.record["fewshot"] for run in (plain, worked, shown)] == [
        {"n": 0, "split": None},
        {"n": 1, "split": None},
        {"n": 2, "split": "train"},
    ]
    assert [run.record["generation"]["max_gen_toks"] for run in (plain, worked)] == [4, 6]
    prompts = [run.samples()[0]["prompt"] for run in (plain, worked, shown, toon)]
    assert prompts[0] == "Question: 1+1?\nAnswer:"
    assert prompts[1] == f"Question: 3+3?\nAnswer: Three and three.\nSo 6.\n\n{prompts[0]}"
    assert prompts[2] == f"{prompts[0]} 2\n\nQuestion: 2+2?\nAnswer: 4\n\n{prompts[0]}"
    assert prompts[3] == "question: 1+1?\nanswer:"
    runs = (plain, worked, shown, toon)
    assert len({run.run_id for run in runs}) == len({run.record["comparability_key"] for run in runs}) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cot": "few"}, "--cot: none of these tasks declares a chain of thought: nano_choice"),
        (
            {"samples": 2},
            "--samples: none of these tasks draws samples (of kind code, or with a temperature): nano_choice",
        ),
        ({"format": "tone"}, "unknown format 'tone'; did you mean 'toon'?"),
    ],
)
def test_evaluate_refuses_what_means_nothing_to_its_tasks(option, message, tmp_path):
    with pytest.raises(slmbench.SlmbenchError) as caught:
        slmbench.evaluate("nano", ["nano_choice"], out=str(tmp_path), limit=1, **option)
    assert str(caught.value) == message


def test_pass_at_k_is_public():
    assert slmbench.pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert slmbench.pass_at_k(5, 5, 5) == 1
