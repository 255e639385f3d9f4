"""Training and evaluation see the same prompt, token for token, or nothing is trained."""

from __future__ import annotations

import copy

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.console import watching
from slmbench.errors import ParityError
from slmbench.evaluation import sent_requests
from slmbench.evaluation._journaled import build_engine
from slmbench.formats import load_format
from slmbench.models import load_model, resolve_model
from slmbench.recipe import Recipe, load_recipe
from slmbench.task import load_task, load_task_folder
from slmbench.training import check_parity, train_adapter
from slmbench.training._parity import compare
from slmbench.training._rows import as_dataset, training_rows

TASKS = ("nano_arithmetic", "nano_note", "nano_choice")


def _rows(task, format, tokenizer, n=8):
    return training_rows(task, format, tokenizer, limit=n, max_tokens=512)


def _fed(rows, loss="answer"):
    """The rows as the trainer holds them."""
    return as_dataset(rows, [rows[0].task], loss=loss).to_list()


@pytest.mark.parametrize("format_name", ["plain", "chat", "toon"])
@pytest.mark.parametrize("name", [*TASKS])
def test_parity_holds_for_every_nano_task_in_every_format(nano, name, format_name):
    task, style = load_task(name), load_format(format_name)
    rows = _rows(task, style, nano.tokenizer)
    assert check_parity(nano, task, style, rows, _fed(rows)) == 8
    assert check_parity(nano, task, style, rows, _fed(rows, "all"), loss="all") == 8


HEAD = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
metrics: [METRIC]
"""
CONTINUED = """\
kind: choice
prompt: {user: "{{ q }} {{ choice }}"}
choices: [red, blue]
gold: "1"
continuation: "{{ a }}"
"""
SHAPES = {
    "no delimiter": (
        'kind: generate\nprompt: {user: "{{ q }}", prefix: "A:", delimiter: ""}\nanswer: "{{ a }}"\n',
        "exact_match",
    ),
    "line break": (
        'kind: generate\nprompt: {user: "{{ q }}", prefix: "A:", delimiter: "\\n"}\nanswer: "{{ a }}"\n',
        "exact_match",
    ),
    "open line": (
        'kind: code\nprompt: {user: "{{ q }}:\\n", delimiter: ""}\nanswer: "{{ a }}"\ncode: {tests: pass}\n',
        "pass@1",
    ),
    "continuation": (
        CONTINUED,
        "accuracy",
    ),
    "continuation with shots": (
        CONTINUED + "fewshot: {n: 2}\n",
        "accuracy",
    ),
    "chain of thought": (
        'kind: generate\nprompt: {user: "{{ q }}"}\nanswer: "{{ a }}"\nfewshot: {n: 1}\n'
        'cot: {reasoning: "It is {{ a }}.", answer: "So {{ a }}", extract: "So (.+)"}\n',
        "exact_match",
    ),
    "several system texts": (
        'kind: generate\nprompt: {system: "About {{ a }}.", user: "{{ q }}"}\nanswer: "{{ a }}"\n',
        "exact_match",
    ),
}


@pytest.mark.parametrize("template", ["own", "default"])
@pytest.mark.parametrize("format_name", ["plain", "chat", "toon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_parity_holds_for_every_shape_of_task_in_every_format(shape, format_name, template, nano, write_task):
    if template == "default":
        tokenizer = copy.deepcopy(nano.tokenizer)
        tokenizer.chat_template = None
        nano = evolve(nano, tokenizer=tokenizer)
    yaml, metric = SHAPES[shape]
    lines = "".join(f'{{"q": "Question {n}", "a": "{n} \\"x\\""}}\n' for n in range(6))
    folder = write_task("t", HEAD.replace("METRIC", metric) + yaml, train=lines, test=lines)
    task, style = load_task_folder(str(folder), default_catalog()), load_format(format_name)
    rows = _rows(task, style, nano.tokenizer)
    assert check_parity(nano, task, style, rows, _fed(rows)) == 6 - task.shot_count


@pytest.mark.realdata
@pytest.mark.parametrize("shots", [0, 2])
def test_parity_holds_on_real_gsm8k_rows(nano, shots):
    task, style = load_task("gsm8k").with_shots(shots), load_format("plain")
    rows = training_rows(task, style, nano.tokenizer, limit=60, max_tokens=1024)
    assert check_parity(nano, task, style, rows, _fed(rows)) == 24


@pytest.mark.realdata
def test_parity_holds_with_a_sentencepiece_tokenizer_that_adds_bos(stories_like):
    task, style = load_task("gsm8k").with_shots(0), load_format("plain")
    rows = training_rows(task, style, stories_like.tokenizer, limit=12, max_tokens=4096)
    assert rows[0].prompt[0] == stories_like.tokenizer.bos_token_id
    assert check_parity(stories_like, task, style, rows, _fed(rows)) == 12


@pytest.fixture
def stories_like(nano):
    """nano with a tokenizer that adds BOS by itself, as Llama's do."""
    from tokenizers import processors

    tokenizer = copy.deepcopy(nano.tokenizer)
    tokenizer.bos_token = "<|system|>"
    bos = tokenizer.convert_tokens_to_ids("<|system|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", bos)]
    )
    return evolve(nano, tokenizer=tokenizer)


def test_skewed_chat_template_is_caught(nano):
    task, style = load_task("nano_note"), load_format("chat")
    skewed = copy.deepcopy(nano.tokenizer)
    skewed.chat_template = nano.tokenizer.chat_template.replace(
        "<|assistant|>\n{% endif %}", "<|assistant|>{% endif %}"
    )
    assert skewed.chat_template != nano.tokenizer.chat_template
    rows = _rows(task, style, skewed)
    with pytest.raises(
        ParityError, match="task 'nano_note', example 'train-0': training and evaluation differ"
    ) as caught:
        check_parity(nano, task, style, rows, _fed(rows))
    assert "different templates" in str(caught.value)
    # Both sides are shown as text.
    assert str(caught.value).count("Note: ") == 2


@pytest.mark.parametrize("side", ["training", "evaluation"])
def test_bos_on_one_side_only_is_caught(stories_like, side):
    task, plain = load_task("nano_arithmetic"), load_format("plain")
    without = evolve(plain, special_tokens=False)
    ours, theirs = (plain, without) if side == "training" else (without, plain)
    rows = _rows(task, ours, stories_like.tokenizer)
    with pytest.raises(ParityError, match="one side alone begins with '<|system|>'".replace("|", r"\|")):
        check_parity(stories_like, task, theirs, rows, _fed(rows))


TRAILING = """\
summary: A question that ends in a space.
version: 1
license: apache-2.0
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}
kind: generate
prompt: {user: "{{ question }}"}
answer: "{{ answer }}"
metrics: [exact_match]
"""


@pytest.fixture
def trailing(tmp_path):
    folder = tmp_path / "tasks" / "trailing"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(TRAILING)
    for split, colour in (("train", "red"), ("test", "blue")):
        (folder / f"{split}.jsonl").write_text(f'{{"question": "The word for {colour} is ", "answer": "rosso"}}\n' * 2)
    return folder


def test_prompt_that_ends_in_a_space_is_caught(nano, trailing):
    task = load_task_folder(str(trailing), default_catalog())
    style = load_format("plain")
    rows = _rows(task, style, nano.tokenizer)
    with pytest.raises(ParityError, match="the prompt ends in white space"):
        check_parity(nano, task, style, rows, _fed(rows))


def test_training_stops_before_its_first_step_where_parity_fails(nano, trailing, tmp_path, monkeypatch):
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    catalog = default_catalog()
    base = load_recipe("nano-quickstart", catalog)
    adapter = base.spec.adapters["note"].model_copy(update={"tasks": ["trailing"]})
    recipe = Recipe("trailing", "", base.spec.model_copy(update={"adapters": {"a": adapter}}))
    steps = []
    with pytest.raises(ParityError, match="white space"), watching(lambda *step: steps.append(step)):
        train_adapter(recipe, "a", catalog, nano.source, out=str(tmp_path / "out"))
    assert steps == []
    assert not (tmp_path / "out").exists()


def test_loss_on_a_part_of_the_prompt_is_caught(nano):
    task, style = load_task("nano_choice"), load_format("plain")
    rows = _rows(task, style, nano.tokenizer, 1)
    (request,) = sent_requests(nano, task, [rows[0].example], style)
    (fed,) = _fed(rows)
    fed["labels"] = list(fed["input_ids"])
    with pytest.raises(ParityError, match="differ from token 0 on"):
        compare(task.name, nano.tokenizer, rows[0], fed, request)


def test_a_loss_on_all_tokens_is_held_to_all_tokens(nano):
    task, style = load_task("nano_note"), load_format("plain")
    rows = _rows(task, style, nano.tokenizer, 1)
    (request,) = sent_requests(nano, task, [rows[0].example], style)
    (fed,) = _fed(rows, "all")
    compare(task.name, nano.tokenizer, rows[0], fed, request, loss="all")
    for place in (0, -1):
        odd = fed | {
            "labels": [-100 if i == place % len(fed["labels"]) else one for i, one in enumerate(fed["labels"])]
        }
        with pytest.raises(ParityError, match="not on exactly prompt and answer"):
            compare(task.name, nano.tokenizer, rows[0], odd, request, loss="all")
    other = fed | {"input_ids": [5, *fed["input_ids"][1:]], "labels": [5, *fed["labels"][1:]]}
    with pytest.raises(ParityError, match="differ from token 0 on"):
        compare(task.name, nano.tokenizer, rows[0], other, request, loss="all")


def test_a_part_of_the_answer_without_loss_is_caught(nano):
    task, style = load_task("nano_note"), load_format("plain")
    rows = _rows(task, style, nano.tokenizer, 1)
    (request,) = sent_requests(nano, task, [rows[0].example], style)
    (fed,) = _fed(rows)
    fed["labels"][-1] = -100
    with pytest.raises(ParityError, match="not on exactly the answer"):
        compare(task.name, nano.tokenizer, rows[0], fed, request)


@pytest.mark.realdata
def test_parity_holds_where_a_chat_turn_opens_with_a_line_break_and_choices_follow(nano):
    # HellaSwag has no prefix: lm-eval alone would move the turn's line break over to the choice.
    task, style = load_task("hellaswag"), load_format("chat")
    rows = training_rows(task, style, nano.tokenizer, limit=2, max_tokens=1024)
    assert check_parity(nano, task, style, rows, _fed(rows)) == 2


@pytest.fixture(scope="module")
def t5():
    """The twin of FLAN-T5: an encoder-decoder with a tokenizer that closes every text itself, without a template."""
    return load_model(resolve_model("flan-t5-small", default_catalog(), twin=True))


def _seq2seq_rows(task, format, tokenizer, n=8, max_tokens=512):
    return training_rows(task, format, tokenizer, limit=n, max_tokens=max_tokens, architecture="seq2seq")


def _seq2seq_fed(rows):
    return [{"input_ids": list(row.prompt), "labels": list(row.answer)} for row in rows]


@pytest.mark.parametrize("format_name", ["plain", "chat", "toon"])
@pytest.mark.parametrize("name", [*TASKS])
def test_parity_holds_for_an_encoder_decoder_in_every_format(t5, name, format_name):
    task, style = load_task(name), load_format(format_name)
    rows = _seq2seq_rows(task, style, t5.tokenizer)
    assert check_parity(t5, task, style, rows, _seq2seq_fed(rows)) == 8
    eos = t5.tokenizer.eos_token_id
    assert all(row.prompt[-1] == row.answer[-1] == eos and eos not in row.answer[:-1] for row in rows)


@pytest.mark.parametrize("format_name", ["plain", "chat", "toon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_parity_holds_for_an_encoder_decoder_in_every_shape(t5, shape, format_name, write_task):
    yaml, metric = SHAPES[shape]
    lines = "".join(f'{{"q": "Question {n}", "a": "{n} \\"x\\""}}\n' for n in range(6))
    folder = write_task("t", HEAD.replace("METRIC", metric) + yaml, train=lines, test=lines)
    task, style = load_task_folder(str(folder), default_catalog()), load_format(format_name)
    rows = _seq2seq_rows(task, style, t5.tokenizer)
    assert check_parity(t5, task, style, rows, _seq2seq_fed(rows)) == 6 - task.shot_count


def test_a_prompt_that_ends_in_a_space_is_no_fault_of_an_encoder(t5, trailing):
    task, style = load_task_folder(str(trailing), default_catalog()), load_format("plain")
    rows = _seq2seq_rows(task, style, t5.tokenizer)
    assert check_parity(t5, task, style, rows, _seq2seq_fed(rows)) == 2


@pytest.mark.realdata
def test_parity_holds_for_an_encoder_decoder_on_real_rows_that_are_cut(t5):
    task, style = load_task("icliniq"), load_format("plain")
    rows = _seq2seq_rows(task, style, t5.tokenizer, n=40, max_tokens=128)
    assert any(row.cut for row in rows)
    assert any(row.cut_answer for row in rows)
    assert check_parity(t5, task, style, rows, _seq2seq_fed(rows)) == 24


def _broken(what, tokenizer, fed):
    ids, labels = fed["input_ids"], fed["labels"]
    return {
        "no end of the encoder": {"input_ids": ids[:-1], "labels": labels},
        "a token of its own": {"input_ids": [*ids[:3], ids[3] + 1, *ids[4:]], "labels": labels},
        "no end of the answer": {"input_ids": ids, "labels": labels[:-1]},
        "a start token": {"input_ids": ids, "labels": [tokenizer.pad_token_id, *labels]},
        "the end twice": {"input_ids": ids, "labels": [*labels, labels[-1]]},
        "an answer of its own": {"input_ids": ids, "labels": [labels[0] + 1, *labels[1:]]},
        "a masked token": {"input_ids": ids, "labels": [-100, *labels[1:]]},
        "no answer": {"input_ids": ids, "labels": []},
        "as a causal model is fed": {"input_ids": ids + labels, "labels": [-100] * len(ids) + labels},
    }[what]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "no end of the encoder",
            "encoder: training and evaluation differ .* one side alone ends in '</s>'",
        ),
        ("a token of its own", "encoder: training and evaluation differ from token 3 on: .* different templates"),
        ("no end of the answer", "decoder: .* the labels lack the end of the answer, '</s>'"),
        ("a start token", "decoder: .* differ from token 0 on: the labels begin with '<pad>', which the model adds"),
        ("the end twice", "decoder: .* write the answer in different ways"),
        ("an answer of its own", "decoder: .* differ from token 0 on: .* in different ways"),
        ("a masked token", "the loss is not on exactly the answer"),
        ("no answer", "the loss is not on exactly the answer"),
        ("as a causal model is fed", "encoder: training and evaluation differ"),
    ],
)
def test_whatever_an_encoder_decoder_is_fed_otherwise_is_caught(t5, what, told):
    task, style = load_task("nano_note"), load_format("plain")
    rows = _seq2seq_rows(task, style, t5.tokenizer, 2)
    fed = _seq2seq_fed(rows)
    fed[1] = _broken(what, t5.tokenizer, fed[1])
    with pytest.raises(ParityError, match=f"task 'nano_note', example 'train-1'.*{told}") as caught:
        check_parity(t5, task, style, rows, fed)
    if "exactly the answer" not in told:
        sides = [line for line in str(caught.value).splitlines() if line.startswith("    ")]
        assert len(sides) == 2  # Both as text.


def test_rows_of_another_format_are_caught_for_an_encoder_decoder(t5):
    task = load_task("nano_note")
    rows = _seq2seq_rows(task, load_format("chat"), t5.tokenizer, 2)
    with pytest.raises(ParityError, match="encoder: training and evaluation differ from token 0 on") as caught:
        check_parity(t5, task, load_format("plain"), rows, _seq2seq_fed(rows))
    assert "User:" in str(caught.value)


def test_what_parity_holds_is_what_the_model_is_given(t5, tmp_path):
    # Not only what the engine says that it would send: what arrives at the encoder and the decoder when it runs.
    import torch
    from lm_eval.api.instance import Instance

    task, style = load_task("nano_choice"), load_format("plain")
    rows = _seq2seq_rows(task, style, t5.tokenizer, 1)
    example = rows[0].example
    seen = []
    (request,) = sent_requests(t5, task, [example], style)
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs, key=key: seen.append(kwargs[key].tolist()), with_kwargs=True
        )
        for module, key in ((t5.model.get_encoder(), "input_ids"), (t5.model, "labels"))
    ]
    try:
        engine = build_engine(t5, style)
        instance = Instance(
            "loglikelihood", {}, (request.text, request.delimiter + task.answer(example)), 0, metadata=("t", 0, 1)
        )
        ((value, _),) = engine.loglikelihood([instance])
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [[rows[0].prompt], [rows[0].answer[:-1]]]
    # The same number as that of the training loss on the same row, but for the end that is not scored.
    labels = torch.tensor([rows[0].answer[:-1]])
    with torch.no_grad():
        loss = t5.model(input_ids=torch.tensor([rows[0].prompt]), labels=labels).loss
    assert value == pytest.approx(-loss.item() * labels.shape[1], rel=1e-6)
