"""Whether every format writes the prompts down, and what comes back of an answer that was written in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from slmbench.checks._findings import Findings, short
from slmbench.checks._rows import fault_of_templates
from slmbench.errors import SlmbenchError
from slmbench.formats import Format, FormatFault, Rendered, format_names, load_format, prompt_ids
from slmbench.task import Task
from slmbench.values import Example, Target, Tokenizer


@frozen
class Reading:
    """What metrics see of the gold answer. stopped_by: the stop string that cut it, '' where none did.

    written: as a model has to write it, up to there.
    """

    format: str
    text: str
    stopped_by: str
    written: str


@frozen
class Written:
    """An example as it is sent: the plain prompt, the plain answer with its delimiter, and the gold answer's readings.

    prompt: None if the plain format could not write it. readings: one a format, of tasks that write text.
    """

    example: Example
    prompt: str | None
    answer: str
    readings: tuple[Reading, ...]


def write_down(
    task: Task, examples: Sequence[Example], tokenizer: Tokenizer, mode: str, found: Findings
) -> list[Written]:
    """Renders every example in every format and reads its gold answer back. mode: what to say of the chain of thought.

    An answer passes through all that an output does: written, set behind the delimiter, cut at the stop strings, read.
    """
    styles = [load_format(name, task.plugins) for name in format_names(task.plugins)]
    for style in styles:
        try:
            style.ends_turn(tokenizer)
            style.template_of(tokenizer) if style.template_of is not None else None
        except SlmbenchError as error:
            found.failed.add(("format", style.name))
            found.at(("prompt",), f"format {style.name!r}: {error}")
    bound: dict[str, Task] = {}  # Binding goes through all rows at hand: once a format.
    return [_write(task, example, styles, bound, tokenizer, mode, found) for example in examples]


def _write(
    task: Task,
    example: Example,
    styles: Sequence[Format],
    in_format: dict[str, Task],
    tokenizer: Tokenizer,
    mode: str,
    found: Findings,
) -> Written:
    try:
        task.prompt(example)
    except SlmbenchError as error:
        location, message = fault_of_templates(task, example.fields, str(error))
        found.of_row("prompt", found.document.problem(location, message), example.id)
        return Written(example, None, "", ())
    asked = example.gold or 0 if example.continuation is not None else 0
    choices = range(len(example.choices)) if example.continuation is not None else [None]
    prompt, answer, readings = None, "", []
    for style in styles:
        try:
            if style.name not in in_format:
                in_format[style.name] = task.in_format(style)
            bound = in_format[style.name]
            own = bound.rebound(example)
            rendered = [style.render(bound.prompt(own, choice), tokenizer) for choice in choices][asked]
            if not rendered.text.strip():
                found.of_format(style.name, ("prompt",), f"the prompt is empty{mode}", example.id)
            if style.name == "plain":
                prompt, answer = rendered.text, rendered.delimiter + style.write(task.target(example))
            if style.plugin:
                _check_prefix(task, own, style, rendered, tokenizer, mode, found)
            if task.kind == "choice":
                _check_choices_read_back(example, style, rendered, found)
            else:
                readings.append(_read_back(bound, own, style, rendered, mode, found))
        except (SlmbenchError, FormatFault) as error:
            found.of_format(style.name, ("prompt",), f"{error}{mode}", example.id)
    return Written(example, prompt, answer, tuple(readings))


def _check_prefix(
    task: Task, example: Example, style: Format, rendered: Rendered, tokenizer: Tokenizer, mode: str, found: Findings
) -> None:
    """Finds a prompt whose tokens are not the first tokens of prompt and answer together.

    Training encodes both as one text and evaluation the prompt alone: a token that lies over the boundary would be one
    that the model has never gone on from. slmbench's own formats are held to it before each training.
    """
    answer = rendered.delimiter + style.write(task.target(example))
    prompt = prompt_ids(style, tokenizer, rendered.text)
    joint = prompt_ids(style, tokenizer, rendered.text + answer)
    if joint[: len(prompt)] != prompt:
        first = next((i for i, (a, b) in enumerate(zip(prompt, joint, strict=False)) if a != b), len(joint))
        message = (
            f"the prompt's tokens are not the first tokens of prompt and answer{mode}: they differ from token {first} "
            f"on of {len(prompt)}, {short(tokenizer.decode(prompt[first:]))} against "
            f"{short(tokenizer.decode(joint[first : len(prompt)]))}; end the prompt elsewhere, for example after a "
            "colon, and leave the blank to the delimiter"
        )
        found.of_format(style.name, ("prompt",), message, example.id)


def _read_back(task: Task, example: Example, style: Format, rendered: Rendered, mode: str, found: Findings) -> Reading:
    target = task.target(example)
    written = rendered.delimiter + style.write(target)
    cut, stopped_by = until_stop(written, style.stop(task.stop))
    text = style.read(cut, example.reasoning is not None)
    if style.plugin:  # Otherwise the first output that is cut would be the first to ask it.
        style.partial(cut[: len(cut) // 2], example.reasoning is not None)
    wanted = rendered.delimiter + target.text if text.startswith(rendered.delimiter) else target.text
    # Where a stop string cuts it (mbpp's answers end in one), the metrics have the word.
    if text not in (wanted, target.text) and not stopped_by:
        message = f"the gold answer comes back changed{mode}: {short(target.text)} as {short(text)}"
        found.of_format(style.name, ("answer",), message, example.id)
    return Reading(style.name, text, stopped_by, cut)


def _check_choices_read_back(example: Example, style: Format, rendered: Rendered, found: Findings) -> None:
    texts = example.choices if example.continuation is None else (example.continuation,)
    for text in texts:
        back = style.read(rendered.delimiter + style.write(Target(text)), False)
        if back not in (text, rendered.delimiter + text):
            message = f"a choice comes back changed: {short(text)} as {short(back)}"
            found.of_format(style.name, ("choices",), message, example.id)


def until_stop(text: str, stop: Sequence[str]) -> tuple[str, str]:
    """What is left of a text that generation stops in, and the stop string; '' where none occurs."""
    places = [(text.index(one), one) for one in stop if one and one in text]
    if not places:
        return text, ""
    end, which = min(places)
    return text[:end], which


def distinct(readings: Sequence[Reading]) -> Mapping[str, Reading]:
    """The readings that differ by more than outer white space, each under the first of the formats that gave it."""
    found: dict[str, Reading] = {}
    for reading in readings:
        found.setdefault(reading.text.strip(), reading)
    return found
