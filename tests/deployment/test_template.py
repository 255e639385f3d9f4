"""A chat template as a Go template: what both make of a conversation is the same text."""

from __future__ import annotations

import itertools

import pytest
from transformers import AutoTokenizer

from slmbench.catalog import default_catalog
from slmbench.deployment import Asking, go_template, modelfile, turns_of
from slmbench.errors import SlmbenchError
from slmbench.formats import load_format
from slmbench.formats.chat import TODAY
from slmbench.plugins import load_plugins
from tests.deployment.ollama import parse_modelfile, run_go_template

CHATTED = ("llama-3.2-1b-instruct", "phi-3.5-mini-instruct", "tinyllama-1.1b-chat", "qwen2.5-0.5b", "nano")
SAID = ["What is 2 + 2?", "4\n\nor so", "Why {{ .System }}?", 'He said """so""".', "Ça va 🙂?", "<b>Oui</b>"]
SYSTEMS = [None, "Be short.", "Two\nlines {{ with }} braces."]


def conversations():
    """Every system message with one to three questions."""
    for system, questions in itertools.product(SYSTEMS, (1, 2, 3)):
        messages = [{"role": "system", "content": system}] if system else []
        for i in range(2 * questions - 1):
            messages.append({"role": ("user", "assistant")[i % 2], "content": SAID[i]})
        yield messages


def jinja(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=TODAY)


@pytest.mark.parametrize("model", CHATTED)
def test_the_template_renders_what_the_models_own_does(model, tokenizer_of):
    tokenizer = tokenizer_of(model)
    template = go_template(turns_of(load_format("chat"), tokenizer, Asking()))
    for messages in conversations():
        assert run_go_template(template, messages) == jinja(tokenizer, messages)


@pytest.mark.parametrize("model", CHATTED)
def test_a_modelfile_carries_the_template_unchanged(model, tokenizer_of):
    turns = turns_of(load_format("chat"), tokenizer_of(model), Asking())
    text = modelfile(".", turns, Asking("Be\nkind."), stop=["<|end|>"], context=1024)
    found = parse_modelfile(text)
    assert dict(found)["template"] == go_template(turns)
    assert dict(found)["system"] == "Be\nkind."
    assert found[0] == ("from", ".")


def test_blocks_that_are_declared_as_data_become_a_template_too(tokenizer_of):
    instruction = load_format("instruction", load_plugins(default_catalog()))
    turns = turns_of(instruction, tokenizer_of("tinyllama-1.1b-chat"), Asking())
    template = go_template(turns)
    said = [("user", "A?"), ("assistant", "B"), ("user", "C?")]
    shown = [{"role": role, "content": content} for role, content in said]
    assert run_go_template(template, shown) == (
        "### Instruction:\nA?\n\n### Response:\nB\n\n### End\n\n### Instruction:\nC?\n\n### Response:\n"
    )


@pytest.fixture
def with_template(nano_tokenizer):
    """with_template(jinja) -> a tokenizer with that chat template."""

    def make(template):
        tokenizer = AutoTokenizer.from_pretrained(nano_tokenizer.name_or_path, local_files_only=True)
        tokenizer.chat_template = template
        return tokenizer

    return make


ROLES = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[/]{% endfor %}"
OPEN = "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.mark.parametrize(
    "template",
    [
        ROLES + OPEN,
        # A default system message, and one that says nothing of roles.
        "{% if messages[0]['role'] != 'system' %}[system]Be good.[/]{% endif %}" + ROLES + OPEN,
        # Literal braces, quotes, blanks that a Modelfile's parser drops, and characters beyond the first plane.
        ROLES.replace("[/]", '{{ "{{" }}"""\u00a0\u200b\U000e0001{{ "{" }}') + OPEN,
        # The system message inside the first question, as Llama 2 has it.
        "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}{% if m['role'] == 'user' %}<s>[INST] "
        "{% if loop.first and s %}<<SYS>>{{ s }}<</SYS>>{% endif %}{{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}",
        # The answer to come begins otherwise than those that are there.
        ROLES + "{% if add_generation_prompt %}[assistant]<think>{% endif %}",
        # No system message at all.
        "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}[/]{% endfor %}" + OPEN,
    ],
    ids=["roles", "default system", "odd characters", "system in question", "other opening", "no system"],
)
def test_other_layouts_too(template, with_template):
    tokenizer = with_template(template)
    turns = turns_of(load_format("chat"), tokenizer, Asking())
    made = dict(parse_modelfile(modelfile(".", turns, Asking(), stop=[], context=None)))["template"]
    for messages in conversations():
        if turns.system is None and messages[0]["role"] == "system":
            continue
        assert run_go_template(made, messages) == jinja(tokenizer, messages)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}. {{ m['content'] }}\n{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}",
    ],
    ids=["numbered", "twice"],
)
def test_what_a_template_cant_follow_is_said_with_a_way_out(template, with_template):
    with pytest.raises(SlmbenchError, match=r"TEMPLATE can't follow; `--to gguf-ready` keeps the template"):
        turns_of(load_format("chat"), with_template(template), Asking())


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[-1]['content'] }}",
        # Earlier answers without what stands before a word of them: a text that hangs on what is said.
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'].split('quoted')[-1] }}[/]{% endfor %}" + OPEN,
    ],
    ids=["last only", "edited"],
)
def test_what_a_template_leaves_out_is_said_before_any_layout_is_made_of_it(template, with_template):
    with pytest.raises(SlmbenchError, match=r"chat template leaves out what the .* says; use `--format plain`"):
        turns_of(load_format("chat"), with_template(template), Asking())


def test_an_answer_that_was_begun_stays_open(tokenizer_of):
    tokenizer = tokenizer_of("phi-3.5-mini-instruct")
    template = go_template(turns_of(load_format("chat"), tokenizer, Asking()))
    begun = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is"}]
    assert run_go_template(template, begun) == "<|user|>\n2 + 2?<|end|>\n<|assistant|>\nIt is"


def test_a_plain_model_is_asked_as_it_was_trained(nano_tokenizer):
    asking = Asking(question=("Question: ", ""), prefix="Answer:")
    template = go_template(turns_of(load_format("plain"), nano_tokenizer, asking))
    asked = [{"role": "user", "content": "3 + 4?"}]
    assert run_go_template(template, asked) == "Question: 3 + 4?\nAnswer:"
    more = [*asked, {"role": "assistant", "content": "7"}, {"role": "user", "content": "And 1 more?"}]
    assert run_go_template(template, more) == "Question: 3 + 4?\nAnswer: 7\n\nQuestion: And 1 more?\nAnswer:"


def test_an_object_of_toon_is_asked_as_it_was_trained(nano_tokenizer):
    from slmbench.values import Prompt, Shot, Target

    toon = load_format("toon")
    turns = turns_of(toon, nano_tokenizer, Asking(prefix="answer:"))
    template = dict(parse_modelfile(modelfile(".", turns, Asking(), stop=[], context=None)))["template"]
    shots = (Shot("", Target("four, really"), {"question": "2 + 2?"}),)
    wanted = toon.render(Prompt("", "Be short.", shots, inputs={"question": "3 + 4?"}), nano_tokenizer).text
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "question: 2 + 2?"},
        {"role": "assistant", "content": '"four, really"'},
        {"role": "user", "content": "question: 3 + 4?"},
    ]
    for message in messages:  # Toon quotes what has a comma or a colon in it, or doesn't: as the library does.
        message["content"] = message["content"] if message["content"] in wanted else message["content"].strip('"')
    assert run_go_template(template, messages) == wanted


def test_the_renderer_refuses_what_it_doesnt_know():
    for template in (
        "{{ .Tools }}",
        "{{ if .Tools }}x{{ end }}",
        "{{ range .Messages }}{{ end }}",
        "{{ if .System }}x",
    ):
        with pytest.raises(ValueError, match="template:"):
            run_go_template(template, [{"role": "user", "content": "x"}])


def test_a_stop_that_no_modelfile_can_say_is_left_out():
    from slmbench.deployment import Turns

    turns = Turns("", None, "", "", "", "")
    text = modelfile(".", turns, Asking(stop=("Question:", "\n", 'a "quote"', " ")), stop=["</s>"], context=512)
    assert [value for command, value in parse_modelfile(text) if command == "stop"] == ["</s>", "Question:"]
    assert ("num_ctx", "512") in parse_modelfile(text)
