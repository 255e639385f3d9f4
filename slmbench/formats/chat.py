"""The tokenizer's own chat template. The template is the authority on special tokens: none are added to its text.

A tokenizer without one gets DEFAULT_TEMPLATE, which needs no token beyond EOS, and BOS where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from slmbench.errors import UsageError
from slmbench.formats._base import Format, Rendered
from slmbench.formats._chat_template import DAY, ChatTemplateFault, asks_for_the_date, render_chat_template
from slmbench.paths import shown
from slmbench.registry import format
from slmbench.values import Prompt, Target, Tokenizer

DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant:{{ '' if message['bare'] else ' ' }}{{ message['content'] }}"
    "{{ eos_token }}\n"
    "{% else %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""System:, User: and Assistant: on lines of their own; the assistant's turn ends in EOS. For base models."""

TODAY = DAY.strftime("%d %b %Y")
"""What a template that names today's date is told, as Llama 3.2's does: else no prompt would be the same tomorrow."""

_PROBE = "slmbench-probe"

_PARTS = (
    "the model's chat template takes a message's content as a list of parts (text, image), as vision models do, not as "
    "a text; use `--format plain`, or write message['content'] where its chat_template.jinja goes through the parts"
)


def chat_template_of(tokenizer: Tokenizer) -> str:
    """The template that the chat format uses with a tokenizer: its own, else DEFAULT_TEMPLATE."""
    return str(tokenizer.chat_template or DEFAULT_TEMPLATE)


def messages_of(prompt: Prompt, target: Target | None = None) -> list[dict[str, str]]:
    """The turns of a prompt: system (where there is one), shots, user; with a target, the assistant's turn too."""
    messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
    opening = prompt.prefix + prompt.delimiter if prompt.prefix else ""
    for shot in prompt.shots:
        own = opening if shot.prefix is None else shot.prefix + prompt.delimiter
        messages.append({"role": "user", "content": shot.user})
        messages.append({"role": "assistant", "content": own + shot.target.text})
    messages.append({"role": "user", "content": prompt.user})
    if target is not None:
        messages.append({"role": "assistant", "content": opening + target.text})
    return messages


def dated(style: Format, tokenizer: Tokenizer) -> list[str]:
    """What to tell a person of the date in this format's prompts; [] where none can be in them."""
    if style.template_of is None or not asks_for_the_date(style.template_of(tokenizer)):
        return []
    return [f"the chat template may write today's date; here it is always {TODAY}, so prompts stay the same"]


def _apply(tokenizer: Tokenizer, messages: list[dict[str, str]], *, open_turn: bool) -> str:
    if not tokenizer.chat_template and tokenizer.eos_token is None:
        raise UsageError("this model's tokenizer has neither a chat template nor an EOS token; use `--format plain`")
    from jinja2 import TemplateError

    try:
        return _written(tokenizer, messages, open_turn=open_turn)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        said = f"the model's chat template refuses the turns {roles}: {error}"
        raise UsageError(_PARTS if _takes_parts(tokenizer, messages) else said) from error
    except ChatTemplateFault as error:
        whose = shown(str(getattr(tokenizer, "name_or_path", "") or "the model"))
        said = f"the chat template of {whose} can't be used: {error}; use `--format plain`"
        raise UsageError(_PARTS if _takes_parts(tokenizer, messages) else said) from error


def _written(tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]], *, open_turn: bool) -> str:
    """Raises jinja2's TemplateError or ChatTemplateFault where the template fails."""
    own = _own_template(tokenizer) if tokenizer.chat_template else DEFAULT_TEMPLATE
    variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": open_turn}
    return render_chat_template(own, {**tokenizer.special_tokens_map, **variables, "date_string": TODAY})


def _takes_parts(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> bool:
    """Whether the template, which failed on texts or left them out, writes them where they come as lists of parts."""
    from jinja2 import TemplateError

    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
    try:
        return _left_out(messages, _written(tokenizer, parts, open_turn=True)) is None
    except (TemplateError, ChatTemplateFault):
        return False


def _own_template(tokenizer: Tokenizer) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # Several named ones, and none of them the default.
        names = ", ".join(map(str, tokenizer.chat_template)) if isinstance(tokenizer.chat_template, dict) else ""
        raise UsageError(
            f"the model has several chat templates ({names}) and none is named default; keep the one you mean as "
            "its only one (chat_template.jinja), or use `--format plain`"
        ) from error


def _left_out(messages: list[dict[str, str]], text: str) -> str | None:
    """Whose turn a prompt lacks, None if it has them all.

    A template may trim what is said, and leave out the thoughts before an assistant's answer.
    """
    at = 0
    for message in messages:
        said = message["content"].strip()
        if message["role"] == "assistant":
            said = said.rpartition("</think>")[2].strip()
        # Templates gather the system turns, or put them into the user's, so only the others' order is held.
        found = text.find(said, 0 if message["role"] == "system" else at)
        if found < 0:
            return message["role"]
        if message["role"] != "system":
            at = found + len(said)
    return None


def _refuse(tokenizer: Tokenizer, messages: list[dict[str, str]], who: str) -> NoReturn:
    """Raises UsageError of a prompt that lacks what a turn says: the model would be asked something else."""
    said = f"the model's chat template leaves out what the {who} says; use `--format plain`"
    raise UsageError(_PARTS if _takes_parts(tokenizer, messages) else said)


def _end_of_text(tokenizer: Tokenizer) -> str:
    """The EOS that stands after a whole encoder's text, which the answer doesn't go on from; '' for other models.

    A tokenizer that knows no BOS and closes every text by itself is an encoder-decoder's (T5).
    """
    if tokenizer.bos_token is not None or tokenizer.eos_token is None:
        return ""
    return str(tokenizer.eos_token) if tokenizer.encode("a")[-1:] == [tokenizer.eos_token_id] else ""


def _ends_turn(tokenizer: Tokenizer) -> list[int]:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    _, found, closing = _apply(tokenizer, turns, open_turn=False).rpartition(_PROBE)
    if not found:
        _refuse(tokenizer, turns, "assistant")
    ids = list(tokenizer.encode(closing, add_special_tokens=False))
    eos = tokenizer.eos_token_id
    if eos not in ids:
        raise UsageError(
            f"the model's chat template closes a turn with {closing!r}, which has no EOS ({tokenizer.eos_token!r}): a "
            "model trained on it would never stop; set the tokenizer's eos_token to the turn's end, or use "
            "`--format plain`"
        )
    return [int(i) for i in ids[: ids.index(eos) + 1]]


def _without_thoughts(output: str, reasoned: bool) -> str:
    """What follows a thinking model's thoughts, which its template, not the answer, may have opened."""
    _, closed, answer = output.rpartition("</think>")
    if closed:
        return answer
    # Cut off while it thought: there is no answer.
    return "" if output.lstrip().startswith("<think>") else output


@format(
    "chat",
    summary="The tokenizer's own chat template, one turn per shot.",
    version="4",
    kind="turns",
    special_tokens=False,
    ends_turn=_ends_turn,
    read=_without_thoughts,
    template_of=chat_template_of,
)
def render(prompt: Prompt, tokenizer: Tokenizer) -> Rendered:
    """The conversation by the tokenizer's own template, the assistant's turn open."""
    messages = messages_of(prompt)
    # Where a task lets nothing stand before an answer (indented code), nothing does.
    bare = not tokenizer.chat_template and not prompt.prefix and not prompt.delimiter
    text = _apply(tokenizer, [turn | {"bare": "yes"} for turn in messages] if bare else messages, open_turn=True)
    if who := _left_out(messages, text):
        _refuse(tokenizer, messages, who)
    if not tokenizer.chat_template:  # "Assistant:" is followed by a blank, as in the turns of the shots.
        end = _end_of_text(tokenizer)
        if prompt.prefix:
            return Rendered(f"{text} {prompt.prefix}{end}", prompt.delimiter)
        return Rendered(text + end, "" if bare else " ")
    # The prefix opens the assistant's turn, so that shots, training and evaluation all begin an answer alike.
    return Rendered(text + prompt.prefix, prompt.delimiter) if prompt.prefix else Rendered(text, "")
