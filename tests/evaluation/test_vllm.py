"""`--engine vllm`: what lm-eval's backend sends to vLLM, and what comes of the answers.

vLLM can't run here; `tests/stand_ins/vllm` answers in its place, with the same real model in transformers.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.engines.options import EngineOptions
from slmbench.engines.vllm_lm import RANKS, max_lora_rank, vllm_class
from slmbench.errors import EngineError, UsageError
from slmbench.evaluation import EvaluationOptions
from slmbench.leaderboard import load_runs
from slmbench.models import is_apart, let_go, load_apart, resolve_model
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, ready_evaluation
from tests.nearly import check_scores, values_of

STAND_INS = Path(__file__).parents[1] / "stand_ins"
TASKS = ("nano_choice", "nano_note")


@pytest.fixture(scope="module")
def vllm_there() -> Any:
    """The stand-in, importable as `vllm` and installed as far as its metadata say so."""
    sys.path.insert(0, str(STAND_INS))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module("vllm")
    finally:
        sys.path.remove(str(STAND_INS))
        for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
            del sys.modules[name]


@pytest.fixture
def vllm(vllm_there: Any) -> Any:
    for noted in (vllm_there.started, vllm_there.asked, vllm_there.ended):
        noted.clear()
    return vllm_there


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two plain LoRA adapters of nano that change what it says, of ranks 4 and 24."""
    import peft
    import torch

    from slmbench.models import load_model

    folders = []
    for number, rank in enumerate((4, 24)):
        torch.manual_seed(number)
        model = load_model(resolve_model("nano", default_catalog())).model
        config = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp("adapters") / f"adapter-{number}"
        peft.get_peft_model(model, config).save_pretrained(folder)
        folders.append(str(folder))
    return folders


def evaluated(out: Path, engine: str, model: Any = "nano", **asked: Any) -> list[Any]:
    options = {name: asked.pop(name) for name in ("batch", "format", "seed") if name in asked}
    plan = EvaluationPlan(
        model=model,
        options=EvaluationOptions(out=str(out), engine=engine, limit=asked.pop("limit", 5), **options),
        tasks=asked.pop("tasks", TASKS),
        **asked,
    )
    catalog = default_catalog()
    return evaluate_plan(*ready_evaluation(plan, catalog), catalog)


def answers(run: Any) -> list[tuple[Any, ...]]:
    return [(s["item_id"], s["output"], s["finish_reason"], s["tokens_in"], s["truncated"]) for s in run.samples()]


def test_without_vllm_the_engine_says_how_to_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        pass
    else:
        pytest.skip("vLLM is installed")
    assert main(["eval", "nano", "--tasks", "nano_choice", "--engine", "vllm", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "engine 'vllm' needs vllm, which isn't installed" in said
    assert "pip install 'slmbench[vllm]'" in said
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def scored(vllm_there: Any, adapters: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(runs by vLLM, runs by HFLM, what vLLM was started with, what it was asked, what was ended)."""
    runs = evaluated(tmp_path_factory.mktemp("vllm"), "vllm", adapters=tuple(adapters), batch=8, limit=3)
    noted = [list(one) for one in (vllm_there.started, vllm_there.asked, vllm_there.ended)]
    return runs, evaluated(tmp_path_factory.mktemp("hf"), "hf", adapters=tuple(adapters), limit=3), *noted


def test_base_and_adapters_score_as_with_hf_and_are_ranked_with_it(scored: Any) -> None:
    runs, theirs, *_ = scored
    assert len(runs) == 6
    assert len({json.dumps([answers(run), [s["loglikelihoods"] for s in run.samples()]]) for run in runs}) == 6
    for run, other in zip(runs, theirs, strict=True):
        assert answers(run) == answers(other)
        for mine, its in zip(run.samples(), other.samples(), strict=True):
            assert mine["loglikelihoods"] == (
                None if its["loglikelihoods"] is None else pytest.approx(its["loglikelihoods"], abs=1e-4)
            )
            assert mine["prompt_sha256"] == its["prompt_sha256"]
        check_scores(values_of(run), values_of(other))
        mine, its = run.record, other.record
        for key in ("comparability_key", "model", "adapter", "tokenizer_sha256", "prompts_sha256"):
            assert mine[key] == its[key], key
        assert (mine["engine"], mine["batch_size"]) == ("vllm", 8)
        assert mine["engine_version"].endswith("/vllm-0.33.0")
        assert mine["packages"]["vllm"] == "0.33.0"
        assert mine["run_id"] != its["run_id"]


def test_one_vllm_serves_a_base_and_its_adapters_and_is_ended(scored: Any, adapters: list[str]) -> None:
    *_, [made], asked, ended = scored
    assert (made["enable_lora"], made["max_lora_rank"]) == (True, 32)
    assert made["lora_target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert (made["dtype"], made["max_model_len"], made["generation_config"]) == ("float32", 1024, "vllm")
    assert ended == [made["model"]]
    requests = [one for one, _, _ in asked]
    assert requests[0] is None
    named = list(dict.fromkeys(one for one in requests if one is not None))
    assert [(one.lora_int_id, one.lora_path) for one in named] == [(1, adapters[0]), (2, adapters[1])]


def test_a_base_alone_is_asked_for_without_lora(vllm: Any, tmp_path: Path) -> None:
    evaluated(tmp_path, "vllm", tasks=("nano_choice",), limit=2)
    assert [made["enable_lora"] for made in vllm.started] == [False]


def test_vllm_is_sent_the_very_ids_that_training_sees(vllm: Any, tmp_path: Path) -> None:
    from slmbench.evaluation._encoding import Encoder
    from slmbench.formats import load_format

    loaded = load_apart(resolve_model("nano", default_catalog()))
    for style in ("plain", "chat"):
        vllm.asked.clear()
        choice, note = evaluated(tmp_path, "vllm", format=style, limit=3)
        encoder = Encoder(loaded, load_format(style))
        scored = [(ids, how) for _, prompts, hows in vllm.asked for ids, how in zip(prompts, hows, strict=True)]
        written = [ids for ids, how in scored if how.prompt_logprobs is None]
        assert sorted(written) == sorted(encoder.prompt(sample["prompt"]) for sample in note.samples())
        pairs = [[*a, *b] for a, b in (encoder.pair(s["prompt"], c) for s, c in _choices(choice, style))]
        assert sorted(ids for ids, how in scored if how.prompt_logprobs is not None) == sorted(pairs)


def _choices(run: Any, style: str) -> list[tuple[Any, str]]:
    from slmbench.evaluation._harness import render_all
    from slmbench.formats import load_format
    from slmbench.task import load_task

    task, form = load_task("nano_choice"), load_format(style)
    tokenizer = load_apart(resolve_model("nano", default_catalog())).tokenizer
    requests = render_all(task.in_format(form), task.examples("test", 3), form, tokenizer)
    return [
        (sample, request.delimiter + choice)
        for sample, request in zip(run.samples(), requests, strict=True)
        for choice in request.continuations
    ]


def test_greedy_texts_are_asked_for_bounded_and_end_where_the_models_files_say(vllm: Any, tmp_path: Path) -> None:
    [run] = evaluated(tmp_path, "vllm", tasks=("nano_note",), limit=3)
    for how in (how for _, _, hows in vllm.asked for how in hows):
        assert (how.temperature, how.max_tokens, how.stop_token_ids) == (
            0.0,
            run.record["generation"]["max_gen_toks"],
            [0],
        )


def test_drawn_texts_depend_on_seed_and_item_and_not_on_the_batch(vllm: Any, write_task: Any, tmp_path: Path) -> None:
    yaml = (
        "summary: Drawn.\nversion: 1\nlicense: mit\n"
        "dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}\nkind: generate\n"
        'prompt: {user: "Question: {{ question }}", prefix: "Answer:"}\nanswer: "{{ answer }}"\n'
        "generation: {max_tokens: 6, temperature: 0.9}\nmetrics: [exact_match]\n"
    )
    from slmbench.task import load_task_folder

    task = load_task_folder(str(write_task("drawn", yaml)), default_catalog())

    def texts(out: str, **asked: Any) -> list[str]:
        [run] = evaluated(tmp_path / out, "vllm", tasks=(task,), **asked)
        return [sample["output"] for sample in run.samples()]

    first = texts("a", batch=1)
    # As transformers draws, and with it lm-eval's other backend, unless a task or the model says otherwise.
    assert {how.top_k for _, _, hows in vllm.asked for how in hows} == {50}
    assert len({how.seed for _, _, hows in vllm.asked for how in hows}) == 2
    assert texts("b", batch=8) == first
    assert texts("c", batch=8, seed=1) != first


def test_a_call_that_was_cut_off_goes_on_with_what_is_left(
    vllm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate, calls = vllm.LLM.generate, []

    def broken(self: Any, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(prompts))
        if len(calls) == 3:
            raise RuntimeError("EngineCore encountered an issue.")
        return generate(self, prompts, *args, **kwargs)

    what = ["eval", "nano", "--tasks", "nano_note", "--limit", "6", "--engine", "vllm", "--batch", "2"]
    monkeypatch.setattr(vllm.LLM, "generate", broken)
    assert main([*what, "--out", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "vLLM stopped at 2 requests" in said and "EngineCore encountered an issue" in said
    monkeypatch.setattr(vllm.LLM, "generate", generate)
    vllm.asked.clear()
    assert main([*what, "--out", str(tmp_path)]) == 0
    assert sum(len(prompts) for _, prompts, _ in vllm.asked) == 2
    [run] = load_runs(tmp_path)[0]
    assert run.record["cost"]["n_resumed"] == 4


def test_a_text_that_vllm_gives_up_is_no_answer(vllm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = vllm.LLM._one

    def aborted(self: Any, *args: Any) -> Any:
        output = one(self, *args)
        output.outputs[0].finish_reason = "abort"
        return output

    monkeypatch.setattr(vllm.LLM, "_one", aborted)
    with pytest.raises(EngineError, match=r"'nano_note', item 0: vLLM gave its text up after \d+ tokens \(abort\)"):
        evaluated(tmp_path, "vllm", tasks=("nano_note",), limit=1)


def test_a_prompt_that_is_too_long_is_cut_on_its_left_and_counted(vllm: Any, write_task: Any, tmp_path: Path) -> None:
    from slmbench.task import load_task_folder

    long = json.dumps({"question": "one two three " * 600, "answer": "2"}) + "\n"
    task = load_task_folder(str(write_task("long", test=long)), default_catalog())
    [run] = evaluated(tmp_path, "vllm", tasks=(task,))
    [(_, [sent], [how])] = vllm.asked
    assert run.record["cost"]["n_truncated"] == 1
    # vLLM reads a scored text's last token and writes one more, so that its window is two tokens smaller for all.
    assert len(sent) + how.max_tokens == 1024 - 2
    assert run.samples()[0]["prompt"].endswith("Answer:")


def test_two_tasks_of_one_long_text_are_cut_each_to_what_it_leaves_room_for(
    vllm: Any, write_task: Any, task_yaml: str, tmp_path: Path
) -> None:
    from slmbench.task import load_task_folder

    long = json.dumps({"question": "one two three " * 600, "answer": "2"}) + "\n"
    folders = [write_task(f"up_to_{n}", f"{task_yaml}generation: {{max_tokens: {n}}}\n", test=long) for n in (3, 4)]
    tasks = [load_task_folder(str(folder), default_catalog()) for folder in folders]
    runs = evaluated(tmp_path, "vllm", tasks=tuple(tasks), limit=1)
    assert [run.record["generation"]["max_gen_toks"] for run in runs] == [3, 4]
    [(_, sent, hows)] = vllm.asked
    room = sorted((len(ids), how.max_tokens) for ids, how in zip(sent, hows, strict=True))
    assert room == [(1018, 4), (1019, 3)]


@pytest.mark.parametrize(
    ("rank", "allowed"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (257, 320), (321, 512), (512, 512)]
)
def test_the_rank_that_is_asked_for_is_one_that_vllm_takes(rank: int, allowed: int) -> None:
    assert max_lora_rank([1, rank]) == allowed
    assert allowed in RANKS


def test_a_rank_above_vllms_largest_is_an_error() -> None:
    with pytest.raises(ValueError, match="rank 513"):
        max_lora_rank([513])


def _dora(folder: Path) -> None:
    import peft

    from slmbench.models import load_model

    model = load_model(resolve_model("nano", default_catalog())).model
    peft.get_peft_model(model, peft.LoraConfig(r=4, use_dora=True, target_modules=["q_proj"])).save_pretrained(folder)


def _whole_head(folder: Path) -> None:
    import peft

    from slmbench.models import load_model

    model = load_model(resolve_model("nano", default_catalog())).model
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"])
    peft.get_peft_model(model, config).save_pretrained(folder)


def _ia3(folder: Path) -> None:
    import peft

    from slmbench.models import load_model

    model = load_model(resolve_model("nano", default_catalog())).model
    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    peft.get_peft_model(model, config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_dora, "has use_dora=True"),
        (_whole_head, "has modules_to_save="),
        (_ia3, "is IA3"),
    ],
)
def test_what_vllm_would_leave_out_of_an_adapter_is_refused_with_a_way_out(
    vllm: Any, make: Any, said: str, tmp_path: Path
) -> None:
    make(tmp_path / "odd")
    with pytest.raises(UsageError, match=said) as caught:
        evaluated(tmp_path / "out", "vllm", adapters=(str(tmp_path / "odd"),))
    assert "--engine shared" in str(caught.value) and "slmbench export" in str(caught.value)
    assert vllm.started == []


def test_a_model_in_memory_is_refused_as_it_would_be_held_twice(vllm: Any, nano: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is in memory, and engine 'vllm' reads a model's files itself"):
        evaluated(tmp_path, "vllm", model=nano)


def test_a_model_that_was_read_apart_is_refused_by_engines_that_hold_one(vllm: Any, tmp_path: Path) -> None:
    loaded = load_apart(resolve_model("nano", default_catalog()))
    with pytest.raises(UsageError, match="without its weights"):
        evaluated(tmp_path, "shared", model=loaded)


def test_an_encoder_decoder_is_refused(vllm: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoder-decoder, which this engine doesn't compute"):
        evaluated(tmp_path, "vllm", model="flan-t5-small", twin=True, data="samples", tasks=("nano_choice",))


def test_no_weights_stay_in_this_process(vllm: Any, tmp_path: Path) -> None:
    loaded = load_apart(resolve_model("nano", default_catalog()))
    assert is_apart(loaded)
    assert {one.device.type for one in loaded.model.skeleton.parameters()} == {"meta"}
    let_go(loaded)


def test_an_adapter_of_another_shape_is_refused_before_vllm_begins(
    vllm: Any, adapters: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        evaluated(
            tmp_path, "vllm", model="smollm2-135m", twin=True, adapters=(adapters[0],), force_base=True, data="samples"
        )
    assert vllm.started == []


def test_the_name_of_the_engine_is_lm_evals_class_with_ids_of_ours(vllm: Any) -> None:
    from lm_eval.models.vllm_causallms import VLLM

    assert issubclass(vllm_class(), VLLM)


def test_an_older_vllm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.11.2")
    with pytest.raises(UsageError, match=r"needs vllm>=0\.32, and here is 0\.11\.2"):
        EngineOptions(name="vllm").require()
