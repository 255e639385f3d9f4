"""A conversation as values: what lines mean, what a message is sent as, and what stays of it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from slmbench.adapters import AdapterBank
from slmbench.catalog import default_catalog
from slmbench.engines.streaming import StreamingWriter, TextSoFar
from slmbench.errors import UsageError
from slmbench.evaluation import sent_requests
from slmbench.formats import load_format
from slmbench.models import LoadedModel
from slmbench.task import blanks_of, load_task
from slmbench.workflow.chat import (
    ChatCommand,
    ChatPlan,
    ChatRoom,
    Conversation,
    answered,
    asked,
    greeting,
    help_lines,
    obey,
    read_line,
)

TASKS = tuple(sorted(default_catalog().files("tasks")))


def room_of(loaded: LoadedModel, **plan: Any) -> ChatRoom:
    def task(name: str) -> Any:
        return load_task(name, data="samples").with_shots(0)

    return ChatRoom(ChatPlan(model="m", **plan), AdapterBank(loaded), None, task, TASKS)


def told(room: ChatRoom, conversation: Conversation, *lines: str) -> Conversation:
    """The conversation after commands."""
    for line in lines:
        command = read_line(line)
        assert isinstance(command, ChatCommand)
        conversation, _ = obey(room, conversation, command)
    return conversation


def said(room: ChatRoom, conversation: Conversation, *messages: str) -> Conversation:
    """The conversation after messages, each answered by the model."""
    writer = StreamingWriter()
    for message in messages:
        conversation, sent = asked(room, conversation, message)
        assert sent is not None
        written = TextSoFar()
        pieces = list(writer.write(sent.loaded, sent.ids, sent.wish, written))
        assert "".join(pieces) == written.text
        conversation = answered(conversation, sent, written.text)
    return conversation


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (" hello /quit ", "hello /quit"),
        ("//etc is a folder", "/etc is a folder"),
        ("/task gsm8k chat", ChatCommand("task", ("gsm8k", "chat"))),
        ("/quit", ChatCommand("quit")),
    ],
)
def test_a_line_is_a_command_or_a_message(line: str, what: object) -> None:
    assert read_line(line) == what


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/histroy", "unknown command /histroy; did you mean 'history'?"),
        ("/", "unknown command /; known: adapter, auto, base"),
        ("/adapter a b", "/adapter takes NAME, and got 'a b'; begin a message with // if it is one"),
        ("/reset now", "/reset takes nothing behind it"),
    ],
)
def test_a_command_that_means_nothing_is_told(line: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_line(line)
    assert message in str(error.value)


@pytest.mark.parametrize("style", ["plain", "chat", "toon"])
@pytest.mark.parametrize("name", ["gsm8k", "squad", "commonsense_qa", "mbpp"])
def test_a_tasks_question_is_sent_as_evaluation_sends_it(
    stories: LoadedModel, nano_tokenizer: Any, name: str, style: str
) -> None:
    loaded = evolve(stories, tokenizer=nano_tokenizer)
    room = room_of(loaded)
    task, format = room.tasks(name), load_format(style)
    row = task.examples(task.spec.split)[0]
    [evaluated] = sent_requests(loaded, task, [row], format)
    conversation = told(room, Conversation(system="Be brief."), f"/task {name} {style}")
    for blank in blanks_of(task, format):
        value: Any = row.fields
        for part in blank.path:
            value = value[part]
        conversation, sent = asked(room, conversation, value)
    assert sent is not None and list(sent.ids) == evaluated.prompt
    assert sent.wish.stops == tuple(format.stop(task.in_format(format).stop))
    assert sent.task == name and conversation.typed == ()


def test_history_is_sent_with_the_models_own_template(nano: LoadedModel) -> None:
    room, first = room_of(nano, system="Be brief."), Conversation("Be brief.")
    for message, text in (("Hello?", "Hello."), ("And now?", "Now\nthis.")):
        first, sent = asked(room, first, message)
        assert sent is not None
        first = answered(first, sent, text)
    _, sent = asked(room, first, "Bye")
    assert sent is not None
    turns: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for one in first.exchanges:
        turns += [{"role": "user", "content": one.message}, {"role": "assistant", "content": one.answer}]
    turns.append({"role": "user", "content": "Bye"})
    own = nano.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert list(sent.ids) == nano.tokenizer.encode(own, add_special_tokens=False)
    assert [one.message for one in first.exchanges] == ["Hello?", "And now?"]
    _, lines = obey(room, first, ChatCommand("history"))
    assert lines[:2] == ["system: Be brief.", "you: Hello?"] and lines[2].startswith("base: ")
    assert told(room, first, "/reset").exchanges == ()


def test_a_model_without_a_template_is_asked_in_plain_text_and_says_so(stories: LoadedModel) -> None:
    room = room_of(stories, max_tokens=8)
    assert any(
        "has no chat template, so messages are sent as plain text" in line for line in greeting(room, Conversation())
    )
    conversation = said(room, Conversation(), "Once upon a time")
    _, sent = asked(room, conversation, "Then Lily")
    assert sent is not None and sent.style.name == "plain"
    before = conversation.exchanges[0]
    text = f"Once upon a time {before.answer}\n\nThen Lily"
    assert list(sent.ids) == stories.tokenizer.encode(text)


def test_a_full_context_loses_its_oldest_messages_first(stories: LoadedModel) -> None:
    room = room_of(stories, max_tokens=40)
    conversation = Conversation()
    dropped = 0
    for number in range(20):
        conversation, sent = asked(room, conversation, f"message {number} " + "and the dog ran " * 10)
        assert sent is not None and len(sent.ids) + 40 <= 512
        conversation = answered(conversation, sent, f"answer {number}")
        dropped += sent.dropped
    assert dropped and len(conversation.exchanges) == 20 - dropped
    assert conversation.exchanges[-1].answer == "answer 19"
    with pytest.raises(UsageError, match=r"the message is [\d,]+ tokens long with its template, and .* reads 512"):
        asked(room, conversation, "dog " * 2000)


def test_what_was_not_answered_is_not_kept(stories: LoadedModel) -> None:
    room = room_of(stories)
    conversation, sent = asked(room, Conversation(), "Hello")
    assert sent is not None
    assert answered(conversation, sent, " \n").exchanges == ()
    assert answered(conversation, sent, "He").exchanges[0].answer == "He"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/adapter med", "unknown adapter 'med'; start the chat with --adapter DIR"),
        ("/auto", "/auto needs a router: start the chat with --router DIR"),
        ("/task gsm8", "unknown task 'gsm8'; did you mean 'gsm8k'?"),
        ("/task gsm8k chta", "unknown format 'chta'; did you mean 'chat'?"),
        ("/task winogrande", "task 'winogrande' compares texts that are given"),
    ],
)
def test_wrong_names_are_told_and_change_nothing(stories: LoadedModel, line: str, message: str) -> None:
    room = room_of(stories)
    with pytest.raises(UsageError) as error:
        told(room, Conversation(), line)
    assert message in str(error.value)
    assert room.bank.active is None


def test_a_task_with_several_parts_asks_for_each(stories: LoadedModel) -> None:
    room = room_of(stories)
    conversation = told(room, Conversation(), "/task nano_choice")
    assert conversation.wanted is not None and conversation.wanted.name == "note"
    conversation, sent = asked(room, conversation, "Ada is 5.")
    assert sent is None and conversation.wanted is not None and conversation.wanted.name == "question"
    assert told(room, conversation, "/task").task is None


def test_help_names_every_command() -> None:
    text = "\n".join(help_lines())
    assert all(f"/{name}" in text for name in ("adapter", "auto", "base", "task", "reset", "history", "help", "quit"))
