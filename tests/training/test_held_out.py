from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.errors import DataError, UsageError
from slmbench.formats import load_format
from slmbench.models import load_tokenizer, resolve_model
from slmbench.runs import TrainedTask, TrainingRecord
from slmbench.task import Task, load_task
from slmbench.training import HeldOutRows, held_out_rows, without_evaluated
from slmbench.training._held_out import prompt_digest
from slmbench.training._rows import split_validation, take_rows
from slmbench.values import Example

CATALOG = default_catalog()
PLAIN = load_format("plain")
TOKENIZER = load_tokenizer(resolve_model("nano", CATALOG))
OPTIONS: dict[str, Any] = {"max_tokens": 256, "wanted": 16}


class Sealed(Task):
    """A task whose evaluated split can't be read."""

    def rows(self, split: str) -> Any:
        assert split != self.spec.split or split == "held-out", "the test split was read"
        return super().rows(split)

    def examples(self, split: str, limit: int | None = None) -> tuple[Example, ...]:
        assert split != self.spec.split or split == "held-out", "the test split was read"
        return super().examples(split, limit)


def sealed(name: str = "nano_note", *, validation: bool = True, rows: int = 40) -> Task:
    task = load_task(name, CATALOG)
    generated = {"train": rows, "validation": 24, "test": 24} if validation else {"train": rows, "test": 24}
    spec = task.dataset.spec.model_copy(update={"generated": generated})
    return Sealed(
        task.name,
        task.spec,
        task.folder,
        evolve(task.dataset, spec=spec),
        task.plugin,
        task.scorers,
        plugins=task.plugins,
    )


def record(prompts: list[str] | None = None, **settings: Any) -> TrainingRecord:
    made = TrainingRecord.model_validate({"settings": settings})
    return made.model_copy(update={"tasks": {"nano_note": TrainedTask(validation_prompts=prompts or [])}})


def held(task: Task, **trained: TrainingRecord | None) -> HeldOutRows:
    return held_out_rows(task, trained, PLAIN, TOKENIZER, **OPTIONS)


def test_the_validation_split_is_taken_where_there_is_one_and_the_test_split_is_not_read() -> None:
    found = held(sealed(), note=record())
    assert found.origin == "split 'validation'"
    assert len(found.rows) == len(found.task.examples("held-out")) <= 24
    assert [row.example for row in found.rows] == list(found.task.examples(found.task.spec.split))
    assert {row.example.id.split("-")[0] for row in found.rows} == {"validation"}


def test_rows_of_a_validation_split_that_are_train_rows_too_are_left_out() -> None:
    task = sealed()
    task._rows["validation"] = evolve(
        task.rows("validation"), rows=task.rows("train").rows[:20] + task.rows("validation").rows
    )
    with_train, without = held(task, note=record()), held(sealed(), note=record())
    assert {row.prompt_sha256 for row in with_train.rows} <= {row.prompt_sha256 for row in without.rows}


def test_else_rows_that_training_kept_aside() -> None:
    task = sealed(validation=False)
    rows = take_rows(task, PLAIN, TOKENIZER, limit=None, max_tokens=256).rows
    trained, aside = split_validation(rows, 6)
    found = held(task, note=record([prompt_digest(row) for row in aside]))
    assert {row.prompt_sha256 for row in found.rows} == {row.prompt_sha256 for row in aside}
    assert not {row.prompt_sha256 for row in found.rows} & {row.prompt_sha256 for row in trained}
    assert "kept aside" in found.origin
    two = held(
        task, a=record([prompt_digest(row) for row in aside]), b=record([prompt_digest(row) for row in aside[:2]])
    )
    assert {row.prompt_sha256 for row in two.rows} == {row.prompt_sha256 for row in aside[:2]}


def test_else_rows_after_those_that_training_read() -> None:
    task = sealed(validation=False)
    found = held(task, note=record(rows=20, validation={"rows": 4}))
    read = {row.prompt_sha256 for row in take_rows(task, PLAIN, TOKENIZER, limit=24, max_tokens=256).rows}
    assert found.rows and not {row.prompt_sha256 for row in found.rows} & read
    assert "after the first 24 rows" in found.origin


def test_a_task_that_nothing_was_trained_on_gives_its_train_split() -> None:
    other = TrainingRecord.model_validate({"tasks": {"nano_choice": {}}})
    assert "nothing here was trained" in held(sealed(validation=False), choice=other).origin


def test_rows_that_no_training_drew_are_rows_that_nobody_saw() -> None:
    task = sealed(validation=False)
    drawn = {"n": 20, "seed": 5}
    found = held(task, note=record(rows=drawn, validation={"rows": 4}), other=record(rows=6))
    read = take_rows(task, PLAIN, TOKENIZER, limit=24, max_tokens=256, seed=5).rows
    read += take_rows(task, PLAIN, TOKENIZER, limit=6, max_tokens=256).rows
    assert found.rows
    assert {row.prompt_sha256 for row in found.rows}.isdisjoint(row.prompt_sha256 for row in read)


def test_without_rows_that_nobody_saw_the_way_to_get_them_is_told() -> None:
    with pytest.raises(UsageError, match=r"note was trained on all of its rows.*validation: \{rows: 64\}"):
        held(sealed(validation=False), note=record())
    with pytest.raises(UsageError, match="rows or prompts are others than in training"):
        held(sealed(validation=False), note=record(["0" * 16]))


def test_the_order_is_that_of_the_prompts_and_not_of_the_file() -> None:
    task, turned = sealed(), sealed()
    there = turned.rows("validation")
    turned._rows["validation"] = evolve(there, rows=there.rows[::-1])
    first, second = held(task, note=record()), held(turned, note=record())
    assert [row.prompt for row in first.rows] == [row.prompt for row in second.rows]
    assert first.only([3, 1]).task.examples("held-out") == (first.rows[3].example, first.rows[1].example)


def test_an_adapter_from_elsewhere_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    held(sealed(), foreign=None)
    assert "foreign has no training.json" in capsys.readouterr().err


def test_rows_whose_text_an_evaluated_split_has_are_left_out_and_told() -> None:
    task = load_task("nano_note", CATALOG)
    clean = without_evaluated(held_out_rows(task, {"note": record()}, PLAIN, TOKENIZER, **OPTIONS), task, [task])
    other, theirs = load_task("nano_note", CATALOG), clean.task.rows(clean.task.spec.split)
    test = other.rows("test")
    other._rows["test"] = evolve(test, rows=[*theirs.rows[:3], *test.rows[3:]])
    kept = without_evaluated(clean, other, [])
    assert [row.prompt_sha256 for row in kept.rows] == [row.prompt_sha256 for row in clean.rows[3:]]
    assert kept.origin.endswith(", without 3 that an evaluated split has too")
    assert [row.example for row in kept.rows] == list(kept.task.examples(kept.task.spec.split))
    with pytest.raises(DataError, match="none is left"):
        without_evaluated(clean.first(3), other, [])
