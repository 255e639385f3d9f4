"""Plain and chat through real tokenizers: nano's own, and tiny ones built here with the habits of other families."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import UsageError
from slmbench.formats import chat_template_of, load_format, pair_ids, prompt_ids, training_ids
from slmbench.formats.chat import DEFAULT_TEMPLATE
from slmbench.task import load_task
from slmbench.values import Prompt, Shot, Target

PLAIN, CHAT, TOON = load_format("plain"), load_format("chat"), load_format("toon")
SHOTS = (Shot("Question: 1+1?", Target("2")), Shot("Question: 2+2?", Target("4")))
ONE = (Shot("1+1?", Target("2"), {"question": "1+1?"}),)


def tokenizer_of(kind: str, *, bos: bool = False, chat_template: str | None = None) -> Any:
    """A tiny tokenizer. kind: 'sentencepiece' puts a mark before each word, the first one too; or 'whitespace'."""
    from tokenizers import Tokenizer, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["Question", "Answer", "hello", "<|user|>", "<|assistant|>", "<|system|>"]
    special = ["<unk>", "<s>", "</s>"]
    characters = [chr(c) for c in range(32, 127)] + ["\n", "▁"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *characters]))}
    merges: list[tuple[str, str]] = []
    for word in words:  # Letter by letter; the mark joins a whole word.
        merges += [(word[:i], word[i]) for i in range(1, len(word)) if (word[:i], word[i]) not in merges]
    merges += [("▁", word) for word in words] if kind == "sentencepiece" else []
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    if kind == "sentencepiece":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = chat_template
    return tokenizer


@lru_cache
def _cached_tokenizer(kind: str, bos: bool) -> Any:
    return tokenizer_of(kind, bos=bos)


TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}END{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ENDED = TURNS.replace("END", "</s>")


def test_plain_is_laid_out_as_lm_eval_lays_out_its_own_tasks() -> None:
    prompt = Prompt("Question: 3+3?", "", SHOTS, "Answer:")
    rendered = PLAIN.render(prompt, None)
    assert rendered.text == "Question: 1+1?\nAnswer: 2\n\nQuestion: 2+2?\nAnswer: 4\n\nQuestion: 3+3?\nAnswer:"
    assert rendered.delimiter == " "


def test_plain_without_prefix_or_with_a_system_text() -> None:
    assert PLAIN.render(Prompt("a"), None).text == "a"
    assert PLAIN.render(Prompt("a", "Be brief."), None).text == "Be brief.\n\na"


def test_plain_keeps_the_delimiters_that_a_task_declares() -> None:
    prompt = Prompt("c", "", (Shot("a", Target("b")),), shot_delimiter="\n")
    texts = [
        PLAIN.render(Prompt(prompt.user, "", prompt.shots, "", between, shot_delimiter="\n"), None)
        for between in (" ", "", "\n")
    ]
    assert [rendered.text for rendered in texts] == ["a b\nc", "ab\nc", "a\nb\nc"]
    assert [rendered.delimiter for rendered in texts] == [" ", "", "\n"]


def test_a_worked_shot_is_reasoning_and_answer_on_lines_of_their_own() -> None:
    shot = Shot("1+1?", Target("So 2.", "One and one."))
    assert PLAIN.render(Prompt("3+3?", "", (shot,), "A:"), None).text == "1+1?\nA: One and one.\nSo 2.\n\n3+3?\nA:"
    assert Shot("q", Target("So 2.", "")).target.text == "So 2."


def test_bare_text_formats_write_and_read_answers_as_they_are() -> None:
    for style in (PLAIN, CHAT):
        assert style.write(Target("So 2.", "One and one.")) == "One and one.\nSo 2."
        assert style.read(" 2\n", True) == " 2\n"
        assert style.stop(["Q:", "\n"]) == ["Q:", "\n"]


def test_chat_is_the_tokenizers_own_template_with_one_turn_a_shot(nano_tokenizer: Any) -> None:
    rendered = CHAT.render(Prompt("3+3?", "Be brief.", ONE, "Answer:"), nano_tokenizer)
    assert rendered.text == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\n1+1?<|end|>\n<|assistant|>\nAnswer: 2<|end|>\n"
        "<|user|>\n3+3?<|end|>\n<|assistant|>\nAnswer:"
    )
    assert rendered.delimiter == " "
    assert CHAT.render(Prompt("3+3?"), nano_tokenizer).delimiter == ""


@pytest.mark.parametrize("template", ["own", "default"])
@pytest.mark.parametrize("prefix", ["", "Answer:"])
@pytest.mark.parametrize("delimiter", [" ", "", "\n"])
def test_a_shots_answer_is_spelt_as_the_answer_to_the_question_is(
    template: str, prefix: str, delimiter: str, nano_tokenizer: Any
) -> None:
    tokenizer = nano_tokenizer if template == "own" else tokenizer_of("whitespace")
    prompt = Prompt("3+3?", "", ONE, prefix, delimiter, {"question": "3+3?"})
    asked = Prompt("1+1?", "", (), prefix, delimiter, {"question": "1+1?"})
    for style in (PLAIN, CHAT, TOON):
        shown, alone = style.render(prompt, tokenizer), style.render(asked, tokenizer)
        assert shown.text.startswith(alone.text + alone.delimiter + "2")
        assert shown.delimiter == alone.delimiter


TEXTS = st.text(max_size=20)
FIELDS = st.dictionaries(
    st.sampled_from(["question", "context", "a b", "1", "x-y"]),
    TEXTS | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    max_size=3,
)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Prompt, Target]:
    """A prompt and its target, reasoned alike."""
    reasoned = draw(st.booleans())

    def target() -> Target:
        return Target(draw(TEXTS), draw(TEXTS) if reasoned else None)

    shots = tuple(Shot(draw(TEXTS), target(), draw(FIELDS)) for _ in range(draw(st.integers(0, 2))))
    prefix, delimiter = draw(st.sampled_from(["", "Answer:", "A"])), draw(st.sampled_from([" ", "", "\n"]))
    prompt = Prompt(draw(TEXTS), draw(TEXTS), shots, prefix, delimiter, draw(FIELDS), reasoned)
    return prompt, target()


@pytest.mark.parametrize("style", [PLAIN, CHAT, TOON], ids=lambda style: style.name)
@given(made=prompts())
def test_prompt_ids_are_an_exact_prefix_of_what_is_trained_on(
    nano_tokenizer: Any, style: Any, made: tuple[Prompt, Target]
) -> None:
    prompt, target = made
    rendered = style.render(prompt, nano_tokenizer)
    answer = style.write(target)
    ids, rest = training_ids(style, nano_tokenizer, rendered, answer)
    assert ids == prompt_ids(style, nano_tokenizer, rendered.text)
    assert nano_tokenizer.decode(ids + rest).startswith(rendered.text + rendered.delimiter + answer)
    assert rest[-1] == nano_tokenizer.eos_token_id


@pytest.mark.parametrize("kind", ["sentencepiece", "whitespace"])
@pytest.mark.parametrize("style", [PLAIN, CHAT, TOON], ids=lambda style: style.name)
@given(made=prompts())
def test_with_other_tokenizers_too_evaluation_sends_the_ids_that_training_sees(
    kind: str, style: Any, made: tuple[Prompt, Target]
) -> None:
    prompt, target = made
    for bos in (False, True):
        tokenizer = _cached_tokenizer(kind, bos)
        rendered = style.render(prompt, tokenizer)
        continuation = rendered.delimiter + style.write(target)
        ids, rest = training_ids(style, tokenizer, rendered, style.write(target))
        scored, continued = pair_ids(style, tokenizer, rendered.text, continuation)
        assert (ids, rest) == (scored, [*continued, tokenizer.eos_token_id])
        assert ids == prompt_ids(style, tokenizer, rendered.text)
        # The default chat template begins with it; plain and toon leave it to the tokenizer.
        assert ids.count(tokenizer.bos_token_id) == (bos or style is CHAT)


@pytest.mark.parametrize("name", ["nano_arithmetic", "nano_note", "nano_choice"])
@pytest.mark.parametrize("style", [PLAIN, CHAT], ids=lambda style: style.name)
def test_prompt_and_answer_of_the_nano_tasks_are_spelt_as_their_joint_text(
    name: str, style: Any, nano_tokenizer: Any
) -> None:
    task = load_task(name)
    for example in task.examples("test", 50):
        rendered = style.render(task.prompt(example), nano_tokenizer)
        prompt, target = training_ids(style, nano_tokenizer, rendered, task.answer(example))
        joint = prompt_ids(style, nano_tokenizer, rendered.text + rendered.delimiter + task.answer(example))
        assert [*joint, nano_tokenizer.eos_token_id] == prompt + target


def test_nanos_tokenizer_adds_no_token_of_its_own(nano_tokenizer: Any) -> None:
    ids = prompt_ids(PLAIN, nano_tokenizer, "Question: 1+1?")
    assert nano_tokenizer.decode(ids) == "Question: 1+1?"
    assert not set(ids) & set(nano_tokenizer.all_special_ids)


def test_bos_is_added_once_in_plain_and_never_twice() -> None:
    tokenizer = tokenizer_of("whitespace", bos=True, chat_template="<s>" + ENDED)
    plain = prompt_ids(PLAIN, tokenizer, PLAIN.render(Prompt("a"), tokenizer).text)
    chat = prompt_ids(CHAT, tokenizer, CHAT.render(Prompt("a"), tokenizer).text)
    twice = prompt_ids(PLAIN, tokenizer, "<s>a")
    for ids in (plain, chat, twice):
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_template_without_bos_gets_none_from_us() -> None:
    tokenizer = tokenizer_of("whitespace", bos=True, chat_template=ENDED)
    ids = prompt_ids(CHAT, tokenizer, CHAT.render(Prompt("a"), tokenizer).text)
    assert tokenizer.bos_token_id not in ids


def test_a_tokenizer_that_marks_every_first_word_keeps_the_joint_spelling() -> None:
    tokenizer = tokenizer_of("sentencepiece", bos=True)
    rendered = PLAIN.render(Prompt("Question", "", (), "Answer"), tokenizer)
    prompt, target = training_ids(PLAIN, tokenizer, rendered, "hello")
    joint = tokenizer.encode("Question\nAnswer hello")
    assert prompt + target == [*joint, tokenizer.eos_token_id]
    # Spelt alone, the answer would begin with a mark too many.
    assert tokenizer.convert_ids_to_tokens(target) == ["▁hello", "</s>"]
    assert tokenizer.tokenize(" hello") == ["▁", "▁hello"]


def test_where_the_joint_text_has_other_tokens_the_prompt_still_is_the_prefix() -> None:
    tokenizer = tokenizer_of("whitespace", chat_template=ENDED)
    rendered = CHAT.render(Prompt("a", "", (), ""), tokenizer)
    assert rendered.delimiter == ""
    joined = type(rendered)(rendered.text + "hel", "")
    prompt, target = training_ids(CHAT, tokenizer, joined, "lo")
    assert prompt == prompt_ids(CHAT, tokenizer, joined.text)
    assert prompt_ids(CHAT, tokenizer, joined.text + "lo")[: len(prompt)] != prompt
    assert tokenizer.convert_ids_to_tokens(target) == ["l", "o", "</s>"]


def test_the_end_of_a_turn_is_what_the_template_writes_up_to_eos(nano_tokenizer: Any) -> None:
    assert CHAT.ends_turn(nano_tokenizer) == [nano_tokenizer.eos_token_id]
    spaced = tokenizer_of("whitespace", chat_template=TURNS.replace("END", "\n</s>\n"))
    assert spaced.convert_ids_to_tokens(CHAT.ends_turn(spaced)) == ["\n", "</s>"]
    assert PLAIN.ends_turn(nano_tokenizer) == [nano_tokenizer.eos_token_id]


def test_a_template_that_ends_no_turn_in_eos_is_refused() -> None:
    tokenizer = tokenizer_of("whitespace", chat_template=TURNS.replace("END", "\n"))
    with pytest.raises(
        UsageError,
        match=r"closes a turn with '\\n', which has no EOS \('</s>'\): a model trained on it would never stop",
    ):
        CHAT.ends_turn(tokenizer)


def test_a_template_that_changes_what_the_assistant_says_is_refused() -> None:
    template = "{% for m in messages %}[{{ m['content']|upper if loop.last else m['content'] }}]</s>{% endfor %}"
    with pytest.raises(UsageError, match="leaves out what the assistant says; use `--format plain`"):
        CHAT.ends_turn(tokenizer_of("whitespace", chat_template=template))


def test_a_tokenizer_without_a_template_gets_the_default_one() -> None:
    tokenizer = tokenizer_of("whitespace")
    rendered = CHAT.render(Prompt("3+3?", "Be brief.", ONE), tokenizer)
    assert rendered.text == "<s>System: Be brief.\nUser: 1+1?\nAssistant: 2</s>\nUser: 3+3?\nAssistant:"
    assert rendered.delimiter == " "
    opened = CHAT.render(Prompt("3+3?", "", ONE, "Answer:"), tokenizer)
    assert opened.text == "<s>User: 1+1?\nAssistant: Answer: 2</s>\nUser: 3+3?\nAssistant: Answer:"
    assert opened.delimiter == " "
    assert chat_template_of(tokenizer) == DEFAULT_TEMPLATE
    assert tokenizer.chat_template is None
    own = tokenizer_of("whitespace", chat_template=ENDED)
    assert chat_template_of(own) == ENDED


@pytest.mark.parametrize("bos", [True, False])
def test_the_default_template_has_bos_once_and_only_where_the_tokenizer_has_one(bos: bool) -> None:
    tokenizer = tokenizer_of("whitespace", bos=bos)
    if not bos:
        tokenizer.bos_token = None
    rendered = CHAT.render(Prompt("a", "", ONE), tokenizer)
    ids = prompt_ids(CHAT, tokenizer, rendered.text)
    special = tokenizer.convert_tokens_to_ids("<s>")
    assert ids.count(special) == bos
    assert (ids[0] == special) == bos
    assert rendered.text.startswith("<s>User:" if bos else "User:")


def test_a_turn_of_the_default_template_ends_in_eos() -> None:
    tokenizer = tokenizer_of("whitespace", bos=True)
    assert CHAT.ends_turn(tokenizer) == [tokenizer.eos_token_id]
    rendered = CHAT.render(Prompt("a"), tokenizer)
    ids, answer = training_ids(CHAT, tokenizer, rendered, "hello")
    assert "".join(tokenizer.convert_ids_to_tokens(ids + answer)) == "<s>User: a\nAssistant: hello</s>"


def test_a_tokenizer_with_neither_template_nor_eos_is_refused_with_the_way_out() -> None:
    tokenizer = tokenizer_of("whitespace")
    tokenizer.eos_token = None
    with pytest.raises(UsageError, match=r"neither a chat template nor an EOS token; use `--format plain`"):
        CHAT.render(Prompt("a"), tokenizer)
    assert PLAIN.render(Prompt("a"), tokenizer).text == "a"


def test_a_template_that_refuses_a_system_turn_is_quoted() -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + ENDED
    tokenizer = tokenizer_of("whitespace", chat_template=template)
    with pytest.raises(UsageError, match=r"refuses the turns system, user: no system role"):
        CHAT.render(Prompt("a", "Be brief."), tokenizer)
    assert CHAT.render(Prompt("a"), tokenizer).text == "<|user|>a</s><|assistant|>"


def test_a_tokenizer_without_eos_is_refused_for_plain() -> None:
    tokenizer = tokenizer_of("whitespace")
    tokenizer.eos_token = None
    with pytest.raises(UsageError, match="no EOS token, so no answer would ever end"):
        PLAIN.ends_turn(tokenizer)


def test_an_unknown_format_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown format 'plan'; did you mean 'plain'\?"):
        load_format("plan")
    with pytest.raises(UsageError, match=r"unknown format 'tone'; did you mean 'toon'\?"):
        load_format("tone")
