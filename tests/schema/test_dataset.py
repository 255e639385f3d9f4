from __future__ import annotations

import pytest

from slmbench.errors import DeclarationError
from slmbench.schema import DatasetSpec, parse
from slmbench.yamlfile import parse_yaml


def spec(text: str) -> DatasetSpec:
    return parse(DatasetSpec, parse_yaml(text.encode(), "d.yaml"))


@pytest.mark.parametrize(
    ("text", "splits"),
    [
        ("{hub: a/b, splits: {train: train, test: validation}}", ["train", "test"]),
        ("{files: {dev: dev.jsonl}}", ["dev"]),
        ("{generated: {train: 5, test: 2}}", ["train", "test"]),
    ],
)
def test_the_splits_are_those_of_the_source(text: str, splits: list[str]) -> None:
    assert spec(text).split_names == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "exactly one of 'hub', 'files', 'generated'; got none of them"),
        ("{hub: a/b}", "needs 'splits'"),
        ("{hub: a/b, generated: {test: 1}, splits: {test: test}}", "got hub and generated"),
        ("{files: {test: x.jsonl}, revision: main}", "belong to a data set of the hub"),
        ("{files: {test: x.jsonl}, splits: {a: test}}", "belong to a data set of the hub"),
        ("{generated: {test: 1}, splits: {a: test}}", "belong to a data set of the hub"),
        ("{generated: {test: 0}}", "a number of rows of at least 1"),
        ("{generated: {test: 1.5}}", "expected a whole number, got float 1.5"),
        ("{files: {}}", "a data set has at least one split"),
        ("{generated: {}}", "a data set has at least one split"),
        ("{files: {../x: x.jsonl}}", "a name has letters"),
        ("{hub: a/b, splits: {test: ../../x}}", "a name has letters"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        spec(text)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_columns_are_a_list_or_a_renaming() -> None:
    assert spec("{files: {test: x}, columns: [a, b]}").column_names == ["a", "b"]
    assert spec("{files: {test: x}, columns: {ours: theirs}}").column_names == ["ours"]
    assert spec("{files: {test: x}}").column_names == []
