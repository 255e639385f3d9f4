"""The check that training and evaluation see the same prompt, token for token, before a step is made."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.errors import ParityError
from slmbench.evaluation import SentRequest, sent_requests
from slmbench.formats import Format
from slmbench.models import LoadedModel
from slmbench.task import Task
from slmbench.training._rows import TrainingRow
from slmbench.values import JsonObject, Tokenizer

ROWS_A_TASK = 24
_WHITE_SPACE = "the prompt ends in white space, which changes the tokens of what follows; remove it"
_BOUNDARY = "a token spans the boundary between prompt and answer; end the prompt elsewhere, for example after a colon"


def check_parity(
    loaded: LoadedModel,
    task: Task,
    format: Format,
    rows: Sequence[TrainingRow],
    fed: Sequence[JsonObject],
    *,
    loss: str = "answer",
) -> int:
    """Compares rows of one task with what evaluation would send for the same examples; returns how many were compared.

    rows: the task's training rows. fed: the same rows as the trainer holds them, with `input_ids` and `labels`: of a
    causal model prompt and answer, the labels -100 on the prompt unless the loss is of `all`; of an encoder-decoder
    the encoder's ids, and the answer's as labels.
    Raises ParityError with both decoded strings where they differ.
    """
    step = max(1, len(rows) // ROWS_A_TASK)
    picked = list(range(0, len(rows), step))[:ROWS_A_TASK]
    sent = sent_requests(loaded, task, [rows[i].example for i in picked], format)
    for index, request in zip(picked, sent, strict=True):
        if request.decoder is None:
            compare(task.name, loaded.tokenizer, rows[index], fed[index], request, loss=loss)
        else:
            end = format.ends_turn(loaded.tokenizer)
            compare_encoder_decoder(task.name, loaded.tokenizer, rows[index], fed[index], request, end)
    return len(picked)


def compare(
    task: str,
    tokenizer: Tokenizer,
    row: TrainingRow,
    fed: JsonObject,
    request: SentRequest,
    *,
    loss: str = "answer",
) -> None:
    """One row against one request. Raises ParityError naming the task, the example and the first difference.

    Three things have to hold: the prompt's ids are those that evaluation sends; the labels begin where the prompt ends,
    or are all ids where the loss is of `all`; prompt and answer encoded together begin with the prompt, and it ends in
    no blank, so that no token lies over the boundary.
    """
    where = f"task {task!r}, example {row.example.id!r}"
    ids, labels = list(fed["input_ids"]), list(fed["labels"])
    whole = loss == "all"
    start = len(row.prompt) if whole else next((i for i, label in enumerate(labels) if label != -100), len(labels))
    trained, sent = ids[:start], request.prompt[row.cut :]
    if trained != sent:
        hint = _hint(request, trained, sent, tokenizer)
        raise ParityError(_difference(where, "training", tokenizer, trained, "evaluation", sent, hint))
    if labels[0 if whole else start :] != ids[0 if whole else start :] or start == len(labels):
        raise ParityError(f"{where}: the loss is not on exactly {'prompt and' if whole else 'the'} answer")
    over = request.joint[: len(request.prompt)] != request.prompt
    if over or (request.delimiter and request.text != request.text.rstrip()):
        hint = _WHITE_SPACE if request.text != request.text.rstrip() else _BOUNDARY
        joint = request.joint[: len(request.prompt) + 3]
        sides = ("the prompt alone", tokenizer, request.prompt, "with its answer", joint)
        raise ParityError(_difference(where, *sides, hint))


def compare_encoder_decoder(
    task: str, tokenizer: Tokenizer, row: TrainingRow, fed: JsonObject, request: SentRequest, end: list[int]
) -> None:
    """One row of an encoder-decoder against one request. Raises ParityError as `compare` does.

    Two things have to hold: the encoder's ids are those that evaluation sends; the labels are the ids that evaluation
    scores, then the turn's end and nothing else. The model makes its decoder's input of them, with its start token in
    front, in training and in scoring alike: no start token is among the labels.
    end: the ids that close an answer.
    """
    where = f"task {task!r}, example {row.example.id!r}"
    trained, sent = list(fed["input_ids"]), request.prompt[row.cut :]
    if trained != sent:
        hint = _hint(request, trained, sent, tokenizer)
        raise ParityError(_difference(f"{where}, encoder", "training", tokenizer, trained, "evaluation", sent, hint))
    assert request.decoder is not None
    labels, scored = list(fed["labels"]), request.decoder + end
    scored = scored[: len(scored) - row.cut_answer]
    if -100 in labels or not labels:
        raise ParityError(f"{where}: the loss is not on exactly the answer")
    if labels != scored:
        if labels[1:] == scored:
            hint = f"the labels begin with {tokenizer.decode(labels[:1])!r}, which the model adds by itself"
        elif labels == request.decoder:
            hint = f"the labels lack the end of the answer, {tokenizer.decode(end)!r}: the model would never stop"
        else:
            hint = "training and evaluation write the answer in different ways"
        raise ParityError(_difference(f"{where}, decoder", "training", tokenizer, labels, "evaluation", scored, hint))


def _hint(request: SentRequest, trained: list[int], sent: list[int], tokenizer: Tokenizer) -> str:
    if trained[1:] == sent or trained == sent[1:]:
        return f"one side alone begins with {tokenizer.decode((trained if trained[1:] == sent else sent)[:1])!r}"
    if request.decoder is not None and (trained[:-1] == sent or trained == sent[:-1]):
        return f"one side alone ends in {tokenizer.decode((trained if trained[:-1] == sent else sent)[-1:])!r}"
    if request.text != request.text.rstrip():
        return _WHITE_SPACE
    return "the two sides render the prompt by different templates"


def _difference(where: str, a: str, tokenizer: Tokenizer, a_ids: list[int], b: str, b_ids: list[int], hint: str) -> str:
    first = next((i for i, (x, y) in enumerate(zip(a_ids, b_ids, strict=False)) if x != y), min(len(a_ids), len(b_ids)))
    around = slice(max(0, first - 3), first + 4)
    return (
        f"{where}: {a} and {b} differ from token {first} on: {hint}\n"
        f"  {a}: ...{a_ids[around]} of {len(a_ids)} tokens\n    {tokenizer.decode(a_ids)!r}\n"
        f"  {b}: ...{b_ids[around]} of {len(b_ids)} tokens\n    {tokenizer.decode(b_ids)!r}"
    )
