"""Encoder-decoder models through the harness, held against lm-eval's own HFLM and against plain transformers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.console import watching
from slmbench.errors import DataError
from slmbench.evaluation import EvaluationOptions, evaluate_tasks, sent_requests
from slmbench.evaluation._harness import generation_kwargs, render_all
from slmbench.formats import encoder_decoder_ids, load_format
from slmbench.models import LoadedModel, ModelSource, attach_adapter, bind_model, load_model, resolve_model
from slmbench.models._digest import weights_sha256
from slmbench.task import Settings, load_task, load_task_folder

FORMATS = ("plain", "chat", "toon")


@pytest.fixture(scope="module")
def t5(tiny_t5) -> LoadedModel:
    return tiny_t5()


def lm_evals_own(loaded: LoadedModel, batch: int, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        backend="seq2seq",
        batch_size=batch,
        softmax_dtype="float32",
        **{"max_length": 512, **options},
    )


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, args, i, metadata=("t", i, 1)) for i, args in enumerate(arguments)]


@pytest.mark.parametrize("batch", [1, 4])
def test_loglikelihoods_are_lm_evals_own(t5, tmp_path, batch) -> None:
    task, style = load_task("nano_choice"), load_format("plain")
    (run,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path), limit=6, batch=batch))
    requests = render_all(task, task.examples("test", 6), style, t5.tokenizer)
    sent = [(one.text, one.delimiter + choice) for one in requests for choice in one.continuations]
    theirs = lm_evals_own(t5, batch).loglikelihood(instances("loglikelihood", sent), disable_tqdm=True)
    ours = [value for sample in run.samples() for value in sample["loglikelihoods"]]
    assert ours == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert len(set(ours)) > 6


@pytest.mark.parametrize("name", ["nano_arithmetic", "nano_note"])
def test_texts_are_lm_evals_own(t5, tmp_path, name) -> None:
    task, style = load_task(name), load_format("plain")
    (run,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path), limit=4, batch=4))
    requests = render_all(task, task.examples("test", 4), style, t5.tokenizer)
    # Of what lm-eval makes of max_gen_toks, the encoder's length is a part: the decoder's own is given instead.
    kwargs = generation_kwargs(task, style) | {"max_length": task.max_tokens + 1}
    theirs = lm_evals_own(t5, 4).generate_until(
        instances("generate_until", [(one.text, dict(kwargs)) for one in requests]), disable_tqdm=True
    )
    assert [sample["output"] for sample in run.samples()] == theirs
    assert len(set(theirs)) > 2


@pytest.mark.parametrize("format_name", FORMATS)
def test_batches_change_nothing(t5, tmp_path, format_name) -> None:
    tasks = [load_task("nano_choice"), load_task("nano_note")]
    options = {"limit": 6, "format": format_name}
    choice, note = (
        run.samples()
        for run in evaluate_tasks(t5, tasks, EvaluationOptions(out=str(tmp_path / "1"), batch=1, **options))
    )
    runs = evaluate_tasks(t5, tasks, EvaluationOptions(out=str(tmp_path / "4"), batch=4, **options))
    other_choice, other_note = (run.samples() for run in runs)
    for sample, other in zip(choice, other_choice, strict=True):
        # float32 sums of up to 100 nats: 6.7e-7 was the most on an AMD processor, which adds in an order of its own.
        assert sample["loglikelihoods"] == pytest.approx(other["loglikelihoods"], rel=1e-6, abs=1e-5)
        assert sample["tokens_in"] == other["tokens_in"]
    assert [sample["output"] for sample in note] == [sample["output"] for sample in other_note]
    assert [sample["tokens_out"] for sample in note] == [sample["tokens_out"] for sample in other_note]
    assert len({sample["output"] for sample in note}) > 3


def test_batches_change_nothing_where_positions_are_learnt(t5, tmp_path) -> None:
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=len(t5.tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256, init_std=0.4,
        pad_token_id=0, bos_token_id=0, eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    bart = bind_model(ModelSource("bart", "bart", "memory"), BartForConditionalGeneration(config), t5.tokenizer)
    tasks = [load_task("nano_choice"), load_task("nano_note").with_max_tokens(12)]
    choice, note = (
        run.samples()
        for run in evaluate_tasks(bart, tasks, EvaluationOptions(out=str(tmp_path / "1"), limit=6, batch=1))
    )
    runs = evaluate_tasks(bart, tasks, EvaluationOptions(out=str(tmp_path / "4"), limit=6, batch=4))
    other_choice, other_note = (run.samples() for run in runs)
    for sample, other in zip(choice, other_choice, strict=True):
        assert sample["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
    assert [sample["output"] for sample in note] == [sample["output"] for sample in other_note]
    assert len({sample["output"] for sample in note}) > 2
    assert len({sample["tokens_in"] for sample in note}) > 2
    assert runs[0].record["model"]["encoder_tokens"] == 256


def test_an_answer_has_its_own_length_not_the_encoders(t5, tmp_path) -> None:
    (task,), _ = Settings(max_tokens=5).of([load_task("nano_note")])
    (run,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path), limit=4, batch=4))
    for sample in run.samples():
        assert sample["tokens_in"] > 50
        assert (sample["tokens_out"], sample["finish_reason"]) == (5, "length")
        ids = t5.tokenizer(sample["prompt"], return_tensors="pt")
        made = t5.model.generate(**ids, max_new_tokens=5, do_sample=False)
        assert sample["output"] == t5.tokenizer.decode(made[0], skip_special_tokens=True)
        assert sample["tokens_in"] == ids["input_ids"].shape[1]


def test_a_stop_string_ends_the_work_at_once(t5, tmp_path) -> None:
    task = load_task("nano_note")
    (whole,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path / "a"), limit=1))
    output = whole.samples()[0]["output"]
    stop = output[6:8]
    generation = task.spec.generation.model_copy(update={"stop": [stop]})
    stopped = evolve(task, spec=task.spec.model_copy(update={"generation": generation}))
    steps = []
    hook = t5.model.decoder.register_forward_hook(lambda *_: steps.append(1))
    try:
        (run,) = evaluate_tasks(t5, [stopped], EvaluationOptions(out=str(tmp_path / "b"), limit=1))
    finally:
        hook.remove()
    (sample,) = run.samples()
    assert (sample["output"], sample["finish_reason"]) == (output[: output.index(stop)], "stop")
    # Its prompt alone is longer than that many steps: lm-eval would go on until the prompt's length is reached.
    assert len(steps) < 12 < task.max_tokens < sample["tokens_in"]


def test_a_prompt_longer_than_the_declared_context_loses_its_beginning(tiny_t5, tmp_path) -> None:
    short, task = tiny_t5(context_tokens=40), load_task("nano_choice")
    choice, note = evaluate_tasks(
        short, [task, load_task("nano_note")], EvaluationOptions(out=str(tmp_path), limit=3, batch=2)
    )
    assert all(sample["truncated"] for run in (choice, note) for sample in run.samples())
    assert choice.record["cost"]["n_truncated"] == 3
    assert choice.record["model"]["encoder_tokens"] == 40
    requests = render_all(task, task.examples("test", 3), load_format("plain"), short.tokenizer)
    sent = [(one.text, one.delimiter + text) for one in requests for text in one.continuations]
    theirs = lm_evals_own(short, 2, max_length=40).loglikelihood(instances("loglikelihood", sent), disable_tqdm=True)
    ours = [value for sample in choice.samples() for value in sample["loglikelihoods"]]
    assert ours == pytest.approx([value for value, _ in theirs], abs=1e-4)
    for sample in note.samples():
        import torch

        ids = torch.tensor([short.tokenizer.encode(sample["prompt"])[-40:]])
        assert ids[0, -1] == short.tokenizer.eos_token_id
        made = short.model.generate(input_ids=ids, max_new_tokens=64, do_sample=False)
        assert sample["output"] == short.tokenizer.decode(made[0], skip_special_tokens=True)
    # Relative positions know no end: without a declared one nothing is lost.
    (whole,) = evaluate_tasks(
        tiny_t5(context_tokens=None), [task], EvaluationOptions(out=str(tmp_path / "whole"), limit=3)
    )
    assert not any(sample["truncated"] for sample in whole.samples())


def test_a_head_that_is_not_the_embedding_stays_the_models_own(tmp_path) -> None:
    import torch

    # As FLAN-T5's, which lm-eval's HFLM would tie to the embedding: tie_weights() is called on any model it is given.
    loaded = load_model(resolve_model("flan-t5-small", default_catalog(), twin=True))
    before, tie = weights_sha256(loaded.model), loaded.model.tie_weights
    assert not torch.equal(loaded.model.lm_head.weight, loaded.model.shared.weight)
    task, style = load_task("nano_choice"), load_format("plain")
    (example,) = task.examples("test", 1)
    expected = []
    for choice in example.choices:
        ids = loaded.tokenizer(task.render(style, loaded.tokenizer, example).text, return_tensors="pt")
        labels = loaded.tokenizer(choice, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected.append(-loaded.model(**ids, labels=labels).loss.item() * labels.shape[1])
    sent_requests(loaded, task, [example], style)
    (run,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=str(tmp_path), limit=1, batch=1))
    assert run.samples()[0]["loglikelihoods"] == pytest.approx(expected, rel=1e-6)
    assert weights_sha256(loaded.model) == before
    assert loaded.model.tie_weights == tie


def test_the_answer_is_bounded_by_learnt_positions_alone(tiny_t5, t5, tmp_path) -> None:
    task = load_task("nano_note").with_max_tokens(64)
    evaluate_tasks(tiny_t5(context_tokens=40), [task], EvaluationOptions(out=str(tmp_path / "t5"), limit=1))
    config = t5.model.config
    config.max_position_embeddings = 40  # As BART's has it.
    try:
        with pytest.raises(DataError, match=r"generates up to 64 tokens, but the decoder of 'tiny-t5' writes 40"):
            evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path / "bart"), limit=1))
    finally:
        del config.max_position_embeddings


def test_a_choice_that_no_token_spells_is_told_of(t5, tmp_path, write_task) -> None:
    yaml = (
        "summary: White space.\nversion: 1\ndataset: {files: {train: train.jsonl, test: test.jsonl}}\nkind: choice\n"
        'prompt: {user: "{{ question }}"}\nchoices: ["\\n", "two"]\ngold: "1"\nmetrics: [accuracy]\n'
    )
    task = load_task_folder(str(write_task("blank", yaml)), default_catalog())
    with pytest.raises(DataError, match=r"task 'blank'.*choices: number 1 of 2 is only white space"):
        evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path)))


def test_the_run_says_what_kind_of_model_it_was(t5, tmp_path) -> None:
    (run,) = evaluate_tasks(t5, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    assert (run.record["model"]["architecture"], run.record["model"]["encoder_tokens"]) == ("seq2seq", 512)
    declared = evolve(t5, source=evolve(t5.source, context_tokens=300))
    (other,) = evaluate_tasks(declared, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
    assert other.run_id != run.run_id
    assert other.record["comparability_key"] == run.record["comparability_key"]


def test_targets_that_the_tokenizer_cannot_write_are_counted(t5, tmp_path, write_task, task_yaml) -> None:
    rows = [{"question": "q", "answer": answer} for answer in ("plain", "two\nlines", "{braces}", " edges\n")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    task = load_task_folder(str(write_task("signs", task_yaml, test=text)), default_catalog()).with_max_tokens(4)
    (run,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path)))
    assert run.record["remarks"]["target has what the tokenizer can't write"] == 2


def test_an_interrupted_run_goes_on(t5, tmp_path) -> None:
    tasks = [load_task("nano_choice"), load_task("nano_note")]
    done = []

    def interrupt(what: str, n: int) -> None:
        done.append(n)
        if len(done) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watching(interrupt):
        evaluate_tasks(t5, tasks, EvaluationOptions(out=str(tmp_path / "cut"), limit=4, batch=1))
    runs = evaluate_tasks(t5, tasks, EvaluationOptions(out=str(tmp_path / "cut"), limit=4, batch=1))
    assert sum(run.record["cost"]["n_resumed"] for run in runs) == 9
    whole = evaluate_tasks(t5, tasks, EvaluationOptions(out=str(tmp_path / "whole"), limit=4, batch=1))
    for run, other in zip(runs, whole, strict=True):
        facts = ("output", "loglikelihoods", "finish_reason", "tokens_in", "tokens_out")
        assert [[s[f] for f in facts] for s in run.samples()] == [[s[f] for f in facts] for s in other.samples()]


CODE_YAML = """\
summary: Small functions.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
kind: code
prompt: {user: "{{ question }}:\\n", delimiter: ""}
answer: "{{ answer }}"
code: {tests: "pass"}
generation: {max_tokens: 8, samples: 3, temperature: 0.9}
metrics: [pass@1]
"""


def test_samples_of_a_code_task_are_drawn_and_judged(t5, tmp_path, write_task) -> None:
    task = load_task_folder(str(write_task("code", CODE_YAML)), default_catalog())
    (run,) = evaluate_tasks(t5, [task], EvaluationOptions(out=str(tmp_path), batch=4))
    samples = run.samples()
    assert [sample["epoch"] for sample in samples] == [0, 1, 2] * 2
    assert len({sample["output"] for sample in samples}) > 2
    assert all(sample["verdict"] for sample in samples)
    assert all(sample["tokens_out"] <= 8 for sample in samples)


def teach(loaded: LoadedModel, pairs: list[tuple[list[int], list[int]]]) -> None:
    """Trains on pairs of encoder ids and labels until they are learnt, with plain torch."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([torch.tensor(one) for one, _ in pairs], batch_first=True)  # T5 pads with 0.
    labels = pad_sequence([torch.tensor(one) for _, one in pairs], batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    for _ in range(200):
        loss = loaded.model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        if loss.item() < 0.05:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"the loss stayed at {loss.item()}")


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_model_taught_the_formats_ids_answers_and_ends(tiny_t5, tmp_path, write_task, task_yaml, format_name) -> None:
    rows = '{"question": "How many?", "answer": "17"}\n{"question": "Which one?", "answer": "the \\"red\\" one"}\n'
    task = load_task_folder(str(write_task("taught", task_yaml, test=rows)), default_catalog())
    loaded, style = tiny_t5(scale=1.0), load_format(format_name)
    examples = task.examples("test")
    written = [style.write(task.target(one)) for one in examples]
    prompts = [task.render(style, loaded.tokenizer, one) for one in examples]
    pairs = [encoder_decoder_ids(style, loaded.tokenizer, *pair) for pair in zip(prompts, written, strict=True)]
    teach(loaded, pairs)
    (run,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=str(tmp_path), batch=2, format=format_name))
    for sample, text, (ids, labels) in zip(run.samples(), written, pairs, strict=True):
        assert (sample["output"], sample["finish_reason"]) == (text, "eos")
        assert (sample["tokens_in"], sample["tokens_out"]) == (len(ids), len(labels))
        assert sample["scores"]["exact_match"] == 1.0
    assert written[0] == "17"


def test_an_adapter_of_an_encoder_decoder_is_attached_and_scored(tiny_t5, tmp_path) -> None:
    import peft
    import torch

    base = tiny_t5(scale=1.0)
    task = load_task("nano_choice")
    (run,) = evaluate_tasks(base, [task], EvaluationOptions(out=str(tmp_path / "out"), limit=3))
    bare = run.samples()
    lora = peft.LoraConfig(r=4, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    wrapped = peft.get_peft_model(tiny_t5(scale=1.0).model, lora)
    with torch.no_grad():
        for key, parameter in wrapped.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    wrapped.save_pretrained(tmp_path / "adapter")
    settings = {"settings": {"method": "qlora", "lora": {"dora": True, "rslora": False, "lr_ratio": None}}}
    (tmp_path / "adapter" / "training.json").write_text(json.dumps(settings))
    tuned = attach_adapter(base, str(tmp_path / "adapter"))
    (run,) = evaluate_tasks(tuned, [task], EvaluationOptions(out=str(tmp_path / "out"), limit=3))
    wrapped.eval()
    merged = evolve(base, model=wrapped.merge_and_unload())
    (plain,) = evaluate_tasks(merged, [task], EvaluationOptions(out=str(tmp_path / "merged"), limit=3))
    note = load_task("nano_note").with_max_tokens(12)
    texts = [
        [
            sample["output"]
            for sample in evaluate_tasks(model, [note], EvaluationOptions(out=str(tmp_path / name), limit=3))[
                0
            ].samples()
        ]
        for model, name in ((tuned, "out"), (merged, "merged"))
    ]
    assert texts[0] == texts[1]
    for sample, other, without in zip(run.samples(), plain.samples(), bare, strict=True):
        assert sample["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
        assert sample["loglikelihoods"] != pytest.approx(without["loglikelihoods"], abs=1e-2)
    assert run.record["adapter"]["method"] == "qlora, dora"
    tuned.model.unload()
    (again,) = evaluate_tasks(base, [task], EvaluationOptions(out=str(tmp_path / "again"), limit=3))
    assert [s["loglikelihoods"] for s in again.samples()] == [s["loglikelihoods"] for s in bare]


def test_chat_without_a_template_closes_the_encoders_text(t5) -> None:
    task, style = load_task("nano_note"), load_format("chat")
    example = task.examples("test", 1)[0]
    rendered = task.render(style, t5.tokenizer, example)
    ids, labels = encoder_decoder_ids(style, t5.tokenizer, rendered, "done")
    eos = t5.tokenizer.eos_token_id
    assert rendered.text.startswith("User: ")
    assert (ids[-1], ids.count(eos)) == (eos, 1)
    assert labels == [*t5.tokenizer.encode("done", add_special_tokens=False), eos]
