"""A task drafted from a file of somebody's own rows: which columns ask, which one answers, and how that is scored.

Nothing of the file's rows goes into what is drafted but the labels of a classification, each of which several rows
have; golden rows are made up unless real ones are asked for.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from slmbench.datasets import Row, read_rows
from slmbench.errors import DataError, UsageError, did_you_mean
from slmbench.paths import shown
from slmbench.schema import ReadSpec
from slmbench.values import JsonObject

SHARE = 0.2
MIN_ROWS = 8
GOLDEN_ROWS = 4
MAX_LABELS = 12
MIN_ROWS_A_LABEL = 3
MAX_LABEL_CHARS = 60
SHORT_ANSWER_WORDS = 6

_CONTEXTS = ("context", "passage", "article", "document", "input", "report", "note", "notes", "transcript", "dialogue")
_QUESTIONS = (
    *("question", "instruction", "prompt", "query", "problem", "sentence", "text", "content", "frage"),
    *_CONTEXTS,
)
_ANSWERS = (
    *("answer", "output", "response", "completion", "target", "label", "summary", "category", "class", "diagnosis"),
    *("code", "codes", "icd", "finding", "result", "solution", "reply", "gold", "answerkey", "antwort"),
)
_TURNS = ("messages", "conversations", "conversation")
_OPTIONS = ("choices", "options", "endings")
_PEOPLE = re.compile(r"(patient|subject|person|hadm|case|author|user|client|document|doc)_?(id|nr|no|number)", re.I)
_ORDINALS = ("first", "second", "third", "fourth")


@frozen
class Draft:
    """What is written of a task. yaml: task.yaml. golden: samples.jsonl's rows. max_tokens: of a training row.

    notes: what a person should know of the guesses.
    """

    yaml: str
    golden: list[Row]
    file: str
    data: bytes
    max_tokens: int
    notes: tuple[str, ...]


@frozen
class Wishes:
    """What a person says of a file; None is guessed. real_samples: golden rows are rows of the file."""

    group: str | None = None
    question: str | None = None
    answer: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    real_samples: bool = False


@frozen
class _Shape:
    """How rows ask and answer. keys: of task.yaml, as YAML. columns: those that it reads. options: that of choices."""

    columns: tuple[str, ...]
    keys: str
    answers: str
    classes: tuple[str, ...] = ()
    said: str = ""
    options: str | None = None


def draft_task(name: str, path: str, wishes: Wishes) -> Draft:
    """A task over the rows of a file. Raises DataError for a file that can't be read, UsageError if guesses fail."""
    if not os.path.isfile(path):
        raise UsageError(f"{shown(path)} is not a file")
    read = ReadSpec(encoding=wishes.encoding, delimiter=wishes.delimiter)
    rows = read_rows(path, read=read)
    theirs = list(rows[0]) if rows else []
    faults = [
        f"{key}: there is no column {column!r}{did_you_mean(column, theirs)}"
        for key, column in (("--group", wishes.group), ("--question", wishes.question), ("--answer", wishes.answer))
        if rows and column is not None and column not in theirs
    ]
    if len(rows) < MIN_ROWS:
        there = f"it has {len(rows)} row{'s' * (len(rows) != 1)}"
        too_few = f"{there}, and a task that is trained and evaluated needs {MIN_ROWS} or more"
        if not faults:
            raise DataError(f"{shown(path)}: {too_few}")
        faults.append(too_few)
    if faults:
        raise UsageError(f"{shown(path)}: {'; '.join(faults)}")
    ours = _our_names(theirs)
    shape = _shape_of(rows, theirs, ours, wishes, path)
    used = list(dict.fromkeys([*shape.columns, *([wishes.group] if wishes.group else [])]))
    types = {column: kind for column in used if (kind := _type_of(rows, column, path)) is not None}
    empty = {
        column: sum(_is_empty(row.get(column)) for row in rows) for column in used if _must_be_filled(column, shape)
    }
    if wishes.group:
        empty[wishes.group] = sum(_is_empty(row.get(wishes.group)) for row in rows)
    filled = [column for column, n in empty.items() if n]
    notes = [
        shape.said,
        *(f"{empty[column]} of {len(rows)} rows have no {column!r} and are left out" for column in filled),
    ]
    if wishes.group is None:
        notes += [
            f"the column {column!r} may say whose row it is: add --group {column}, or rows of one are on both sides"
            for column in theirs
            if _PEOPLE.search(column)
        ][:1]
    file = _file_name(path)
    lines = [
        f"# Drafted from {os.path.basename(path)!r} by `slmbench new task`; `slmbench check {name}` tests it.",
        f"summary: {_quoted(f'Rows of {os.path.basename(path)}.')}",
        "source: A file of your own.",
        "version: 1                      # Raise it whenever a change makes scores incomparable with earlier ones.",
        "license: unknown                # The terms of the rows: say them.",
        "dataset:",
        f"  files: {{train: {_quoted(file)}}}",
        f"  columns: {_columns(used, ours)}",
        *([f"  read: {_flow(read.model_dump(exclude_none=True))}"] if read != ReadSpec() else []),
        *([f"  types: {_flow({ours[column]: kind for column, kind in types.items()})}"] if types else []),
        *(
            [f"  filled: {_flow([ours[column] for column in filled])}   # Rows that lack one of these are left out."]
            * bool(filled)
        ),
        "  # A part of the rows is evaluated and never trained on; rows of one group are on one side.",
        f"  holdout: {{split: test, of: train, share: {SHARE}"
        + (f", group: {_quoted(ours[wishes.group])}" if wishes.group else "")
        + ", seed: 0}",
        "split: test",
        "train_split: train",
        shape.keys,
    ]
    if wishes.group:
        lines.append(
            f"cluster: {_quoted('{{ ' + ours[wishes.group] + ' }}')}   # Rows of one are not independent of each other."
        )
    golden = _golden(rows, used, ours, shape, types, wishes)
    longest = max(sum(len(str(row.get(column, ""))) for column in used) for row in rows)
    max_tokens = 128 if longest < 160 else 1024
    with open(path, "rb") as source:
        data = source.read()
    return Draft("\n".join(lines) + "\n", golden, file, data, max_tokens, tuple(note for note in notes if note))


def _shape_of(rows: list[Row], theirs: list[str], ours: Mapping[str, str], wishes: Wishes, path: str) -> _Shape:
    low = {column.strip().lower(): column for column in reversed(theirs)}
    turns = next((low[name] for name in _TURNS if name in low), None)
    if (
        wishes.question is None
        and wishes.answer is None
        and turns is not None
        and isinstance(_first(rows, turns), list)
    ):
        return _conversation(rows, turns, ours[turns], path)
    answer = wishes.answer or next(
        (low[name] for name in _ANSWERS if name in low and low[name] != wishes.question), None
    )
    asks = [wishes.question] if wishes.question else []
    if not asks:
        first = next((low[name] for name in _QUESTIONS if name in low and low[name] != answer), None)
        more = [low[name] for name in _CONTEXTS if name in low and low[name] not in (answer, first)]
        asks = [first, *more] if first else []
    others = [column for column in theirs if column not in (answer, wishes.group, *asks) and not _PEOPLE.search(column)]
    if not asks and len(others) == 1:
        asks = others
    elif answer is None and len(others) == 1:
        answer = others[0]
    if not asks or answer is None:
        raise UsageError(
            f"{shown(path)}: which column asks, and which one answers? Its columns are {', '.join(map(repr, theirs))}: "
            "add --question COLUMN and --answer COLUMN"
        )
    options = next((low[name] for name in _OPTIONS if name in low), None)
    if options is not None and isinstance(_first(rows, options), list | dict):
        return _choice(asks, answer, options, ours)
    return _question(rows, asks, answer, ours)


def _conversation(rows: list[Row], column: str, name: str, path: str) -> _Shape:
    role, said = _turn_keys(rows, column, path)
    several = any(len([one for one in row.get(column) or () if one.get(role) != "system"]) > 2 for row in rows)
    user = f"{{{{ {name}[-2].{said} }}}}"
    if several:
        user = (
            f"{{% for turn in {name}[:-1] %}}{{% if turn.{role} != 'system' %}}{{{{ turn.{role} }}}}: "
            f"{{{{ turn.{said} }}}}\n{{% endif %}}{{% endfor %}}"
        )
    system = f"{{% if {name}[0].{role} == 'system' %}}{{{{ {name}[0].{said} }}}}{{% endif %}}"
    answer = f"{{{{ {name}[-1].{said} }}}}"
    answers = [row[column][-1][said] for row in rows if row.get(column)]
    inputs = f"\n  inputs: {{question: {_quoted(user)}}}"
    keys_ = _generate(f"\n  system: {_quoted(system)}\n  user: {_quoted(user)}{inputs}", answer, answers)
    told = f"{column!r} are conversations: what is said last is the answer"
    return _Shape((column,), keys_, column, said=told)


def _turn_keys(rows: list[Row], column: str, path: str) -> tuple[str, str]:
    """The keys of a turn's speaker and words. Raises DataError with each row that holds something else than turns."""
    first = _first(rows, column)
    turn = first[0] if isinstance(first, list) else None
    pairs = (("role", "content"), ("from", "value"))
    keys = next((pair for pair in pairs if isinstance(turn, dict) and set(pair) <= set(turn)), None)
    if keys is None:
        raise UsageError(f"{shown(path)}: {column!r} has no turns with role and content, or from and value")
    odd = [
        str(number)
        for number, row in enumerate(rows)
        if not _is_empty(row.get(column))
        and not (
            isinstance(row[column], list)
            and all(isinstance(one, dict) and all(isinstance(one.get(key), str) for key in keys) for one in row[column])
        )
    ]
    if odd:
        more = f" and {len(odd) - 5} more" * (len(odd) > 5)
        listed = f"row{'s' * (len(odd) > 1)} {', '.join(odd[:5])}{more} (from 0)"
        raise DataError(
            f"{shown(path)}: {listed}: {column!r} is not a list of turns that each have a text in {keys[0]!r} and "
            f"{keys[1]!r}; correct it, or remove such rows"
        )
    return keys


def _choice(asks: Sequence[str], answer: str, options: str, ours: Mapping[str, str]) -> _Shape:
    user = _asked(asks, ours)
    keys = (
        f'kind: choice\nprompt:\n  user: {_quoted(user)}\n  prefix: "Answer:"\nchoices: {ours[options]}\n'
        f"gold: {_quoted('{{ ' + ours[answer] + ' }}')}\nmetrics: [accuracy, accuracy_norm, bits_per_byte]"
    )
    told = f"{_listed(asks)} asks, {answer!r} is one of {options!r}"
    return _Shape((*asks, options, answer), keys, answer, said=told, options=options)


def _question(rows: list[Row], asks: Sequence[str], answer: str, ours: Mapping[str, str]) -> _Shape:
    answers = [str(row.get(answer)).strip() for row in rows if not _is_empty(row.get(answer))]
    classes = _classes(answers)
    user, target = _asked(asks, ours), "{{ " + ours[answer] + " }}"
    if classes:
        listed = _flow(list(classes))
        keys = (
            f'kind: choice\nprompt:\n  user: {_quoted(user)}\n  prefix: "Answer:"\n'
            f"choices: {listed}\nlabels: {listed}\ngold: {_quoted(target)}\nmetrics: [accuracy]"
        )
        told = f"{_listed(asks)} asks, {answer!r} is one of {len(classes)} labels, which task.yaml names"
        return _Shape((*asks, answer), keys, answer, classes, told)
    keys = _generate(f'\n  user: {_quoted(user)}\n  prefix: "Answer:"', target, answers)
    return _Shape((*asks, answer), keys, answer, said=f"{_listed(asks)} asks, {answer!r} answers")


def _generate(prompt: str, answer: str, answers: Sequence[str]) -> str:
    words = sorted(len(text.split()) for text in answers) or [1]
    longest = max((len(text) for text in answers), default=1)
    metric = "exact_match" if words[len(words) // 2] <= SHORT_ANSWER_WORDS else "rouge"
    stop = "" if any("\n" in text for text in answers) else ', stop: ["\\n"]'
    tokens = min(768, max(16, longest // 2 + 8))
    return (
        f"kind: generate\nprompt:{prompt}\nanswer: {_quoted(answer)}\n"
        f"generation: {{max_tokens: {tokens}{stop}}}\nmetrics: [{metric}]"
    )


def _asked(asks: Sequence[str], ours: Mapping[str, str]) -> str:
    first, *more = (ours[column] for column in asks)
    return f"{{{{ {first} }}}}" + "".join(f"{{% if {name} %}}\n{{{{ {name} }}}}{{% endif %}}" for name in more)


def _classes(answers: Sequence[str]) -> tuple[str, ...]:
    """The labels of a classification, () where the answers are none: few, short, each of several rows."""
    counts = Counter(answers)
    fits = (
        2 <= len(counts) <= MAX_LABELS
        and min(counts.values()) >= MIN_ROWS_A_LABEL
        and len({" ".join(text.split()).casefold() for text in counts}) == len(counts)
        and all(text and len(text) <= MAX_LABEL_CHARS and "\n" not in text and "{" not in text for text in counts)
    )
    return tuple(sorted(counts)) if fits else ()


def _golden(
    rows: list[Row],
    used: Sequence[str],
    ours: Mapping[str, str],
    shape: _Shape,
    types: Mapping[str, str],
    wishes: Wishes,
) -> list[Row]:
    if wishes.real_samples:
        whole = [row for row in rows if not any(_is_empty(row.get(column)) for column in used)]
        kept = {json.dumps({column: row[column] for column in used}, default=str): row for row in whole}
        return [{column: _plain(row[column]) for column in used} for row in list(kept.values())[:GOLDEN_ROWS]]
    return [{column: _made_up(rows, column, number, shape, types) for column in used} for number in range(GOLDEN_ROWS)]


def _made_up(rows: list[Row], column: str, number: int, shape: _Shape, types: Mapping[str, str]) -> object:
    """A value of a column's kind, with no word of the rows in it but the labels of a classification."""
    example = _first(rows, column)
    if column == shape.answers and shape.classes:
        return shape.classes[number % len(shape.classes)]
    if column == shape.options:
        return _made_options(example)
    if column == shape.answers and shape.options is not None:
        return _made_gold(rows, column, shape.options)
    if isinstance(example, list) and example and isinstance(example[0], dict):  # Turns of a conversation.
        role, said = ("role", "content") if "role" in example[0] else ("from", "value")
        names = ("user", "assistant") if role == "role" else ("human", "gpt")
        texts = (f"A made-up question, the {_ORDINALS[number]}.", f"Reply {number + 1}")
        return [{role: name, said: text} for name, text in zip(names, texts, strict=True)]
    if isinstance(example, dict | list):
        return _made_options(example)
    if types.get(column) == "int" or (isinstance(example, int) and not isinstance(example, bool)):
        return number + 1
    if column == shape.answers:
        return f"value {number + 1}"
    return f"A made-up text, the {_ORDINALS[number]}." if column in shape.columns else f"made-up-{number + 1}"


def _made_options(example: object) -> list[str] | JsonObject:
    """Four choices in the form that a row has them in: a list, texts beside labels, or a dict from label to text."""
    texts = [f"option {letter}" for letter in "abcd"]
    if not isinstance(example, dict):
        return texts
    if isinstance(example.get("text"), list):
        labels = example.get("label")
        if not isinstance(labels, list):
            return {"text": texts}
        numbers = all(isinstance(label, int) for label in labels)
        return {"text": texts, "label": [1, 2, 3, 4] if numbers else list("ABCD")}
    return dict(zip("ABCD", texts, strict=True))


def _made_gold(rows: list[Row], answer: str, options: str) -> int | str:
    """What names the first of `_made_options`, in the way in which a row names its right one."""
    row = next((row for row in rows if not _is_empty(row.get(answer)) and not _is_empty(row.get(options))), rows[0])
    gold, choices = row[answer], row[options]
    made = _made_options(choices)
    if isinstance(choices, dict) and isinstance(made, dict):
        texts = choices.get("text") if isinstance(choices.get("text"), list) else list(choices.values())
        labels = choices.get("label") if isinstance(choices.get("text"), list) else list(choices)
        if str(gold) in {str(label) for label in labels or ()}:
            return made["label"][0] if isinstance(made.get("label"), list) else "A"
    else:
        texts = choices
    if gold in (texts or ()):
        return "option a"
    if isinstance(gold, str) and gold.strip().isalpha():
        return "A"
    return 1 if isinstance(gold, int) else "1"


def _first(rows: list[Row], column: str) -> object:
    """A column's first value that isn't empty; "" where there is none."""
    return next((row[column] for row in rows if not _is_empty(row.get(column))), "")


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | list | dict) or value is None else str(value)


def _must_be_filled(column: str, shape: _Shape) -> bool:
    return column in (shape.columns[0], shape.answers)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def _type_of(rows: list[Row], column: str, path: str) -> str | None:
    """The type to declare where a column's values are not texts; None if nothing is to be declared."""
    values = [row[column] for row in rows if not _is_empty(row.get(column))]
    if all(isinstance(value, str | list | dict) or type(value) is int for value in values):
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "int" if all(float(value).is_integer() for value in values) else "text"
    return "text"


def _our_names(theirs: Sequence[str]) -> dict[str, str]:
    """Column -> the name that templates use: its own where that can be written in one."""
    ours: dict[str, str] = {}
    for column in theirs:
        name = column
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column) or column in _WORDS:
            name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_").lower() or "column"
            name = f"column_{name}" if name[0].isdigit() else f"{name}_" if name in _WORDS else name
        while name in ours.values() or (name != column and name in theirs):
            name += "_"
        ours[column] = name
    return ours


_WORDS = frozenset("self not in is and or if else elif for endfor endif true false none True False None".split())


def _columns(used: Sequence[str], ours: Mapping[str, str]) -> str:
    if all(ours[column] == column for column in used):
        return _flow(list(used))
    return _flow({ours[column]: column for column in used})


def _file_name(path: str) -> str:
    name = os.path.basename(path)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return name
    endings = re.search(r"(\.[A-Za-z0-9]{1,8}){1,2}$", name)
    return "rows" + (endings[0].lower() if endings else "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _flow(value: Mapping[str, str] | Iterable[str]) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(key)}: {_quoted(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(_quoted, value)) + "]"


def _listed(columns: Sequence[str]) -> str:
    return " and ".join(map(repr, columns))
