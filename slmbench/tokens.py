"""What a record costs in tokens, by the form that it is written in: plain, chat, compact JSON, Toon, one or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from slmbench.datasets import Row, fetch_rows, local_source, sample_rows
from slmbench.errors import UsageError
from slmbench.exports import asked_of, compact_json, record_of, toon_table, with_same_columns
from slmbench.formats import load_format
from slmbench.lengths import Ruler
from slmbench.task import Task
from slmbench.values import Example, JsonObject

BATCH = 20


@frozen
class TokenCosts:
    """Mean tokens a record, prompt and answer, without shots, system text and the tokenizer's own BOS and EOS.

    plain, chat, toon: as the formats write it; chat is None if the tokenizer allows none. json: a compact object of
    the same inputs and target. json_array, toon_table: a record's share in a batch of all `rows`, which are records as
    `data export` writes them, options included. declared: by the formats that are data, by name. source: of the rows:
    mirror, file, generated or golden.
    """

    task: str
    model: str
    rows: int
    source: str
    plain: float
    chat: float | None
    json: float
    toon: float
    json_array: float
    toon_table: float
    declared: Mapping[str, float] = field(factory=dict)

    @property
    def toon_against_json(self) -> float:
        """How much more a single record costs in Toon than in JSON, as a share: -0.1 is 10% less."""
        return self.toon / self.json - 1

    @property
    def toon_against_plain(self) -> float:
        return self.toon / self.plain - 1

    @property
    def table_against_array(self) -> float:
        """The same of a whole batch: Toon's table against a JSON array."""
        return self.toon_table / self.json_array - 1

    def as_json(self) -> JsonObject:
        per_record = {
            key: None if getattr(self, key) is None else round(getattr(self, key), 2)
            for key in ("plain", "chat", "json", "toon", "json_array", "toon_table")
        }
        return {
            "task": self.task,
            "model": self.model,
            "rows": self.rows,
            "source": self.source,
            "tokens_per_record": per_record | {name: round(mean, 2) for name, mean in self.declared.items()},
            "toon_against_json": round(self.toon_against_json, 4),
            "toon_against_plain": round(self.toon_against_plain, 4),
            "toon_table_against_json_array": round(self.table_against_array, 4),
        }


def token_costs(task: Task, ruler: Ruler, n: int = BATCH) -> TokenCosts:
    """The costs of the first n rows of the evaluated split that this machine has, else of the golden rows.

    Nothing is downloaded. Raises DataError for rows that can't be written as records.
    """
    rows, source = _rows_at_hand(task, n)
    bare = task.with_shots(0)
    examples = [bare.example(row, number, task.spec.split) for number, row in enumerate(rows)]
    records = with_same_columns([record_of(bare, example) for example in examples])
    try:
        chat: float | None = _mean(ruler, [_written(bare, example, "chat", ruler) for example in examples])
    except UsageError:  # A tokenizer without a template and EOS, or one whose template refuses these turns.
        chat = None
    return TokenCosts(
        task=task.name,
        model=ruler.model,
        rows=len(examples),
        source=source,
        plain=_mean(ruler, [_written(bare, example, "plain", ruler) for example in examples]),
        chat=chat,
        json=_mean(ruler, [compact_json(asked_of(bare, example)) for example in examples]),
        toon=_mean(ruler, [_written(bare, example, "toon", ruler) for example in examples]),
        json_array=_mean(ruler, [compact_json(records)], len(records)),
        toon_table=_mean(ruler, [toon_table(records)], len(records)),
        declared={
            name: _mean(ruler, [_written(bare, example, name, ruler) for example in examples])
            for name in declared_formats(task)
        },
    )


def declared_formats(task: Task) -> list[str]:
    """The formats that are declared as data, as the task knows them."""
    return [entry.name for entry in task.plugins if entry.kind == "format" and entry.path.endswith(".yaml")]


def format_costs(task: Task, ruler: Ruler, format: str, n: int = BATCH) -> tuple[float, float, float, int]:
    """(mean tokens a record in a format, as compact JSON, as plain text; rows), of the rows that `token_costs` takes.

    Nothing is downloaded. Raises DataError for rows that can't be written as records, UsageError for a format that the
    tokenizer doesn't allow.
    """
    rows, _ = _rows_at_hand(task, n)
    bare = task.with_shots(0)
    examples = [bare.example(row, number, task.spec.split) for number, row in enumerate(rows)]
    tokens, plain = (
        _mean(ruler, [_written(bare, example, one, ruler) for example in examples]) for one in (format, "plain")
    )
    return tokens, _mean(ruler, [compact_json(asked_of(bare, example)) for example in examples]), plain, len(examples)


def _rows_at_hand(task: Task, n: int) -> tuple[list[Row], str]:
    split = task.spec.split
    if task.data != "samples" and (source := local_source(task.dataset, split)) is not None:
        return fetch_rows(task.dataset, split, limit=n).rows, source
    return sample_rows(task.dataset, task.samples_path, split).rows[:n], "golden"


def _written(task: Task, example: Example, format: str, ruler: Ruler) -> str:
    style = load_format(format, task.plugins)
    task = task.in_format(style)
    example = task.rebound(example)
    # System text is the task's, the same for every record, and JSON has no place for it.
    prompt = evolve(task.prompt(example), system="")
    rendered = style.render(prompt, ruler.tokenizer)
    closing = ""
    if style.turns:
        ends, eos = style.ends_turn(ruler.tokenizer), ruler.tokenizer.eos_token_id
        # EOS counts where it is a part of the layout, as a chat's turn; behind an end mark it is training's own.
        closing = ruler.tokenizer.decode(ends if style.template_of or ends[-1] != eos else ends[:-1])
    return rendered.text + rendered.delimiter + style.write(task.target(example)) + closing


def _mean(ruler: Ruler, texts: Sequence[str], records: int | None = None) -> float:
    return sum(ruler.lengths(texts, special_tokens=False)) / (records or len(texts))
