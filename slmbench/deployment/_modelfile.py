"""The Modelfile that Ollama makes a model from. Source: ollama, docs/modelfile.mdx and parser/parser.go."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from slmbench.deployment._go_template import go_template
from slmbench.deployment._turns import WAY_OUT, Turns, probe_turns
from slmbench.errors import SlmbenchError
from slmbench.formats import Format, load_format
from slmbench.values import Prompt, Shot, Target, Tokenizer


@frozen
class Asking:
    """What a model's tasks want beside its chat template.

    system: one that all prompts have. question: (before, after) what is asked, where a layout without turns needs it;
    prefix: opens the answer there. temperature, stop: of the tasks' generations. max_tokens: of prompt and answer.
    """

    system: str = ""
    question: tuple[str, str] = ("", "")
    prefix: str = ""
    delimiter: str = " "
    shot_delimiter: str = "\n\n"
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    max_tokens: int = 2048


def turns_of(format: Format, tokenizer: Tokenizer, asking: Asking) -> Turns:
    """The layout that a model was trained on, found out from what training renders; held to whole conversations.

    Raises SlmbenchError, with a way out, where a Go template can't write it.
    """
    plain = not format.turns
    # Around an object of Toon stands what stands around plain text; what is asked is the object, already written.
    style = load_format("plain") if format.kind == "object" else format
    before, after = asking.question if plain else ("", "")
    prefix = asking.prefix if plain else ""

    def render(system: str, earlier: Sequence[tuple[str, str]], question: str) -> str:
        shots = tuple(Shot(before + asked + after, Target(answer)) for asked, answer in earlier)
        prompt = Prompt(
            before + question + after, system, shots, prefix, asking.delimiter, shot_delimiter=asking.shot_delimiter
        )
        return style.render(prompt, tokenizer).text

    turns = probe_turns(render, tokenizer.eos_token)
    for system, earlier, question in conversations():
        if system and turns.system is None:
            continue
        if turns.written(system, earlier, question) != render(system, earlier, question):
            roles = ", ".join(["system"] * bool(system) + ["user", "assistant"] * len(earlier) + ["user"])
            raise SlmbenchError(
                f"the layout of {format.name!r} is not a string of turns (it differs for {roles}), which a TEMPLATE "
                f"can't follow; {WAY_OUT}"
            )
    return turns


def conversations() -> list[tuple[str, list[tuple[str, str]], str]]:
    """(system, earlier turns, question): what a template is held to."""
    texts = [("What is {{ x }}?", 'A "quoted" answer.'), ("And\nthen?", "<b>Two</b>\n\nlines"), ("Ça va 🙂?", "Oui.")]
    return [(system, texts[:n], "The last one?") for system in ("", "Be short.\nBe kind.") for n in range(4)]


def without_bos(turns: Turns, bos: str | None) -> Turns:
    """The layout as Ollama wants it where its engine puts BOS before a prompt by itself."""
    from attrs import evolve

    if not bos:
        return turns
    system = turns.system and (turns.system[0].removeprefix(bos), turns.system[1])
    return evolve(turns, opening=turns.opening.removeprefix(bos), system=system)


def modelfile(weights: str, turns: Turns, asking: Asking, *, stop: Sequence[str], context: int | None) -> str:
    """The file's text. weights: what FROM names; stop: what ends a turn; context: the model's, in tokens."""
    room = -(-asking.max_tokens // 256) * 256
    num_ctx = max(2048, room) if context is None else min(context, max(2048, room))
    lines = [f"FROM {weights}", "", f'TEMPLATE """{go_template(turns)}"""', ""]
    if asking.system and turns.system is not None:
        lines += [f'SYSTEM """{_checked(asking.system)}"""', ""]
    for text in dict.fromkeys([*stop, *asking.stop]):
        if _says_itself(text):
            lines.append(f'PARAMETER stop "{text}"')
    lines += [
        f"PARAMETER num_ctx {num_ctx}",
        f"PARAMETER temperature {asking.temperature:g}",
        # As the model was evaluated: Ollama's own default would change what is most likely.
        "PARAMETER repeat_penalty 1",
    ]
    return "\n".join(lines) + "\n"


def _says_itself(text: str) -> bool:
    # The parser knows no escapes: what has a line end or a quote in it can't be said as a parameter.
    return bool(text.strip()) and text.isprintable() and '"' not in text


def _checked(system: str) -> str:
    if '"""' in system or any(not c.isprintable() and c != "\n" for c in system):
        raise SlmbenchError(
            "the tasks' system message has three quotes or control characters in it, which no Modelfile can express; "
            "write the SYSTEM line by hand into the Modelfile of a `--to merged` folder"
        )
    return system
