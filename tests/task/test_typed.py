"""A task that a person asks: what its prompt is made of, and that the prompt is the one of a row that says the same."""

from __future__ import annotations

from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.formats import load_format
from slmbench.task import blanks_of, load_task, typed_example

NOT_ASKED = {"winogrande"}
TASKS = sorted(set(default_catalog().files("tasks")) - NOT_ASKED)


def at(fields: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        fields = fields[part]
    return fields


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("style", ["plain", "chat", "toon"])
def test_what_a_row_prints_typed_in_makes_its_prompt(name: str, style: str, nano_tokenizer: Any) -> None:
    task, format = load_task(name, data="samples").with_shots(0), load_format(style)
    blanks, compared = blanks_of(task, format), 0
    assert blanks
    for row in task.examples(task.spec.split):
        try:
            values = [at(row.fields, blank.path) for blank in blanks]
        except (LookupError, TypeError):
            continue
        if any(isinstance(value, list) and len(value) > 1 for value in values):
            continue  # A person types one text for a list.
        texts = [value[0] if isinstance(value, list) else value for value in values]
        example = typed_example(task.in_format(format), blanks, texts)
        made, own = (task.render(format, nano_tokenizer, one).text for one in (example, row))
        if len(made) == len(own) or len(blanks_of_row(task, row)) == len(blanks):
            assert made == own
            compared += 1
    assert compared or name in ("pubmed_qa", "web_search_summarization")


def blanks_of_row(task: Any, row: Any) -> list[object]:
    """What a row prints of its own, looped items one by one."""
    from slmbench.templates import Template

    spec = task.spec.prompt
    return list({(one.path, str(one.value)) for one in Template(spec.user).printed(row.fields)})


def test_a_task_that_asks_nothing_says_so() -> None:
    task = load_task("winogrande", data="samples").with_shots(0)
    with pytest.raises(UsageError, match="compares texts that are given, each before a continuation"):
        blanks_of(task, load_format("plain"))


def test_nothing_of_a_golden_row_is_in_a_typed_prompt(nano_tokenizer: Any) -> None:
    task, format = load_task("squad", data="samples").with_shots(0), load_format("plain")
    example = typed_example(task, blanks_of(task, format), ["T", "B", "Q"])
    assert task.render(format, nano_tokenizer, example).text == "Title: T\n\nBackground: B\n\nQuestion: Q\n\nAnswer:"
