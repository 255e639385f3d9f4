"""The format of a training is that of its evaluation unless told, and a difference is told."""

from __future__ import annotations

import pytest
from attrs import evolve

import slmbench
from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.evaluation import EvaluationOptions
from slmbench.formats import load_format
from slmbench.models import adapter_on, load_tokenizer, resolve_model
from slmbench.recipe import load_recipe
from slmbench.task import load_task
from slmbench.training import train_adapter
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan

RECIPE = """\
summary: A few steps.
model: nano
format: {format}
adapters: {{{format}_note: {{tasks: [nano_note]}}}}
rows: 8
optim: {{steps: 1, batch: 2}}
on_contamination: warn
evaluation: {{tasks: [nano_note], limit: 2}}
"""
OPTIONS = {"format": None, "batch": "auto", "limit": 1, "seed": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """format -> the folder of an adapter trained in it."""
    out, catalog, folders = tmp_path_factory.mktemp("formats"), default_catalog(), {}
    for name in ("chat", "toon"):
        path = out / f"{name}.yaml"
        path.write_text(RECIPE.format(format=name))
        source = resolve_model("nano", catalog)
        folders[name] = train_adapter(
            load_recipe(str(path), catalog), f"{name}_note", catalog, source, out=str(out / name)
        )
    return folders


def test_base_and_adapter_are_asked_as_the_adapter_was_trained(trained, tmp_path, capsys):
    plan = EvaluationPlan(
        model="nano", adapters=(trained["chat"],), options=EvaluationOptions(out=str(tmp_path), **OPTIONS)
    )
    runs = evaluate_plan(plan, [load_task("nano_note")], default_catalog())
    assert [run.record["format"] for run in runs] == ["chat", "chat"]
    assert all("format" not in remark for run in runs for remark in run.record["remarks"])
    assert "chat_note was trained in it" in capsys.readouterr().err


def test_another_format_is_told_before_the_run_and_in_its_record(trained, nano, tmp_path, capsys):
    told = "adapter 'chat_note' was trained in format chat; this run is in format plain"
    adapter = {"adapter": trained["chat"], "limit": 2}
    (run,) = slmbench.evaluate(nano, "nano_note", format="plain", out=str(tmp_path), **adapter)
    assert run.record["remarks"][told] == 2 and told in capsys.readouterr().err
    (own,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), **adapter)
    assert own.record["format"] == "chat"
    with adapter_on(nano, trained["toon"]) as tuned:  # As it lies in the caller's hands.
        (own,) = slmbench.evaluate(tuned, "nano_note", out=str(tmp_path), limit=1)
    assert own.record["format"] == "toon"
    (base,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=1)
    assert base.record["format"] == "plain"


def test_adapters_of_several_formats_are_named_and_the_way_out(trained, tmp_path):
    options = EvaluationOptions(out=str(tmp_path), **OPTIONS)
    plan = EvaluationPlan(model="nano", adapters=tuple(trained.values()), options=options)
    with pytest.raises(UsageError, match=r"chat_note: chat; .*toon_note: toon.*--format"):
        evaluate_plan(plan, [load_task("nano_note")], default_catalog())


def test_a_chat_model_in_plain_is_remarked_on(clone, load, scored):
    folder = clone("tuned")
    loaded = load(folder)
    (run,) = scored(loaded, "nano_note", limit=1)
    assert run.record["remarks"]["the model has a chat template; this run is in format plain"] == 1
    (chat,) = scored(loaded, "nano_note", limit=1, format="chat")
    assert not any("chat template" in remark for remark in chat.record["remarks"])
    (folder / "chat_template.jinja").unlink()
    (bare,) = scored(load(folder), "nano_note", limit=1)
    assert not any("chat template" in remark for remark in bare.record["remarks"])


TURN = "{{ m['content'] }}{{ eos_token }}"
PARTS = [
    "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{{ eos_token }}",
    "{% for c in m.content if c.type == 'text' %}{{ '<|user|>' + c.text }}{% endfor %}{{ eos_token }}",
    "{{ m['content'][0]['text'] + eos_token }}",
    "{{ (m['content'] | selectattr('type', 'equalto', 'text') | first)['text'] }}{{ eos_token }}",
]


@pytest.mark.parametrize(
    ("turn", "who"),
    [
        (f"{{% if m['role'] != 'user' %}}{TURN}{{% endif %}}", "user"),
        (f"{{% if m['role'] != 'system' %}}{TURN}{{% endif %}}", "system"),
        (f"{{% if m['role'] != 'assistant' %}}{TURN}{{% endif %}}", "assistant"),
    ],
)
def test_a_template_that_leaves_out_what_was_said_is_refused_in_evaluation(turn, who):
    tokenizer = load_tokenizer_with(f"{{% for m in messages %}}{turn}{{% endfor %}}")
    task = load_task("nano_arithmetic").with_shots(1)
    prompt = evolve(task.prompt(task.examples("test", 1)[0]), system="Be short." if who == "system" else "")
    with pytest.raises(UsageError, match=f"leaves out what the {who} says"):
        load_format("chat").render(prompt, tokenizer)


@pytest.mark.parametrize("turn", PARTS)
def test_a_template_of_models_that_see_is_told_by_what_it_takes(turn):
    tokenizer = load_tokenizer_with(f"{{% for m in messages %}}{turn}{{% endfor %}}")
    task = load_task("nano_arithmetic").with_shots(1)
    with pytest.raises(UsageError, match=r"as a list of parts .*; use `--format plain`, or write message\['content'\]"):
        load_format("chat").render(task.prompt(task.examples("test", 1)[0]), tokenizer)
    with pytest.raises(UsageError, match="as a list of parts"):
        load_format("chat").ends_turn(tokenizer)


def test_a_template_may_trim_and_drop_thoughts_and_a_default_is_needed_among_several():
    chat, task = load_format("chat"), load_task("nano_arithmetic").with_shots(1)
    prompt = task.prompt(task.examples("test", 1)[0])
    trims = (
        "{% for m in messages %}{{ (m['content'].split('</think>')[-1] if m['role'] == 'assistant' else m['content'])"
        "|trim }}{{ eos_token }}{% endfor %}"
    )
    assert prompt.user.strip() in chat.render(prompt, load_tokenizer_with(trims)).text
    with pytest.raises(UsageError, match=r"several chat templates \(rag, tool_use\).*default"):
        chat.render(prompt, load_tokenizer_with({"rag": trims, "tool_use": trims}))


def load_tokenizer_with(template):
    tokenizer = load_tokenizer(resolve_model("nano", default_catalog()))
    tokenizer.chat_template = template
    return tokenizer
