"""How a model's turns are written, found out by rendering conversations and looking at what stands between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from slmbench.errors import SlmbenchError, UsageError

Turn = tuple[str, str]
Render = Callable[[str, Sequence[Turn], str], str]

_SYSTEM, _USER, _ANSWER = "qSlmSystemq", "qSlmUser{}q", "qSlmAnswer{}q"
WAY_OUT = (
    "`--to gguf-ready` keeps the template itself, and `llama-server --jinja` runs it; or write TEMPLATE into the "
    "Modelfile of a `--to merged` folder by hand"
)


@frozen
class Turns:
    """The texts around what is said; a conversation is these and the messages, strung together.

    opening: before the first turn where there is no system message (a default one included). system: (before it, after
    it), None if the layout has none. user: before a question; reply: between a question and an answer that is there;
    generation: between the last question and the answer that is to come; closing: after an answer.
    """

    opening: str
    system: tuple[str, str] | None
    user: str
    reply: str
    generation: str
    closing: str

    def written(self, system: str, earlier: Sequence[Turn], question: str) -> str:
        """A conversation up to the answer that is to come; system: '' for none."""
        before, after = self.system or ("", "")
        said = [before + system + after if system else self.opening]
        for asked, answer in earlier:
            said += [self.user, asked, self.reply, answer, self.closing]
        return "".join([*said, self.user, question, self.generation])


def probe_turns(render: Render, eos: str | None) -> Turns:
    """The layout of a render(system, earlier turns, question), whose system may be ''.

    eos: the text that ends a turn, which is counted to the turn that it ends. Raises SlmbenchError if questions,
    answers and a system message are not simply strung together.
    """
    questions = [_USER.format(i) for i in range(2)]
    answer = _ANSWER.format(0)
    opening, generation = _between(render("", [], questions[0]), questions[0])
    first, reply, again, last = _between(
        render("", [(questions[0], answer)], questions[1]), questions[0], answer, questions[1]
    )
    if (first, last) != (opening, generation):
        raise SlmbenchError(f"this layout writes a turn in several ways, which a TEMPLATE can't follow; {WAY_OUT}")
    system: tuple[str, str] | None = None
    try:
        said = render(_SYSTEM, [], questions[0])
    except UsageError:  # A template may refuse a system message.
        said = ""
    ends = [opening, again]
    if _SYSTEM in said:
        before, after, _ = _between(said, _SYSTEM, questions[0])
        system = before, after
        ends.append(after)
    user = _common_end(ends)
    if eos and user.startswith(eos):
        user = user[len(eos) :].removeprefix("\n")
    cut = len(user)

    def without(text: str) -> str:
        return text[: len(text) - cut]

    return Turns(
        without(opening),
        None if system is None else (system[0], without(system[1])),
        user,
        reply,
        generation,
        without(again),
    )


def _between(text: str, *marks: str) -> list[str]:
    """The parts of a text around marks that stand in it in this order, once each."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise SlmbenchError(
                f"this layout omits, repeats or reorders messages, which a TEMPLATE can't follow; {WAY_OUT}"
            )
        parts.append(before)
    return [*parts, text]


def _common_end(texts: Sequence[str]) -> str:
    length = 0
    while length < min(map(len, texts)) and len({text[-1 - length] for text in texts}) == 1:
        length += 1
    return texts[0][len(texts[0]) - length :]
