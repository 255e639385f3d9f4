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
        ("{local: [train, test]}", ["train", "test"]),
        ("{hub: a/b, splits: {train: all, test: all}, holdout: {split: test, of: train, rows: 5}}", ["train", "test"]),
    ],
)
def test_the_splits_are_those_of_the_source(text: str, splits: list[str]) -> None:
    assert spec(text).split_names == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "exactly one of 'hub', 'files', 'generated', 'local', 'loader'; got none of them"),
        ("{local: [test], hub: a/b, splits: {test: test}}", "got hub and local"),
        ("{local: []}", "local: list should have at least 1 item"),
        ("{local: test}", "local: expected a list, got str 'test'"),
        ("{local: [../test]}", "a name has letters"),
        ("{local: [test], splits: {test: test}}", "belong to a data set of the hub"),
        ("{local: [test], revision: main}", "belong to a data set of the hub"),
        ("{files: {test: x}, where: 5}", "where: expected keys and values, got int 5"),
        ("{files: {test: x}, columns: [a], where: {b: x}}", "'where' names 'b', which 'columns' lacks"),
        ("{files: {test: x}, columns: {a: b}, where: {b: x}}", "'where' names 'b', which 'columns' lacks"),
        ("{generated: {test: 5}, where: {b: x}}", "'where' is for rows that are there"),
        ("{files: {test: x}, replaces: 'yes'}", "replaces: expected true or false, got str 'yes'"),
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


HELD = "{{hub: a/b, splits: {splits}, holdout: {{{holdout}}}}}"


@pytest.mark.parametrize(
    ("splits", "holdout", "message"),
    [
        (
            "{train: t, test: t}",
            "split: test, of: train, rows: 0",
            "holdout.rows: input should be greater than or equal",
        ),
        ("{train: t, test: t}", "split: test, of: train", "holdout has either 'rows', a number of them, or 'share'"),
        ("{train: t, test: t}", "split: train, of: train, rows: 1", "holdout takes 'train' from itself"),
        ("{train: t, test: t}", "split: test, of: train, rows: 1, share: 0.5", "holdout has either 'rows'"),
        ("{train: t, test: t}", "share: 1.0", "holdout.share: input should be less than 1"),
        ("{train: t, test: u}", "split: test, of: train, rows: 1", "splits has to map both to one split of the hub"),
        ("{train: t}", "split: test, of: train, rows: 1", "splits has to map both to one split of the hub"),
        ("{train: t}", "split: a, of: b, rows: 1", "splits has to map both to one split of the hub"),
        (
            "{train: train, dev: train, final: dev}",
            "split: dev, of: train, rows: 1",
            "split 'final' is the hub's 'dev', a name that holdout gives to other rows",
        ),
        (
            "{train: train, dev: train, whole: train}",
            "split: dev, of: train, rows: 1",
            "split 'whole' is the hub's 'train', a name that holdout gives to other rows",
        ),
    ],
)
def test_a_holdout_that_cannot_be_kept_apart_is_refused(splits: str, holdout: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        spec(HELD.format(splits=splits, holdout=holdout))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("files: {train: a, test: b}", "holdout makes the split 'test'; remove it from the list of files"),
        ("local: [train, test]", "holdout makes the split 'test'; remove it from the list of files"),
        ("files: {all: a}", "holdout takes rows of 'train', which is not one of the splits: all"),
        ("generated: {train: 2, test: 2}", "'holdout' is for rows that are there"),
    ],
)
def test_a_holdout_of_ones_own_rows_makes_a_split_that_is_no_file(source: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        spec(f"{{{source}, holdout: {{rows: 1}}}}")
    assert message in str(caught.value)
    assert spec("{files: {train: a}, holdout: {share: 0.2, group: patient}}").split_names == ["train", "test"]
    assert spec("{local: [all], holdout: {of: all, split: dev, rows: 1}}").split_names == ["all", "dev"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("read: {encoding: latin-99}", "'latin-99' is not an encoding"),
        ("read: {encoding: hex}", "'hex' is not an encoding"),
        ("read: {delimiter: '::'}", "read.delimiter: string should have at most 1 character"),
        ("types: {a: integer}", "types.a: expected 'text', 'int'"),
        ("columns: [b], types: {a: int}", "'types' names 'a', which 'columns' lacks"),
        ("columns: [b], filled: [a]", "'filled' names 'a', which 'columns' lacks"),
    ],
)
def test_what_says_how_files_are_read_is_held_to_its_words(keys: str, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        spec(f"{{files: {{test: x.csv}}, {keys}}}")
    assert message in str(caught.value)


def test_keys_that_are_not_used_change_no_digest() -> None:
    plain = "hub: a, splits: {train: t, test: t}, holdout: {split: test, of: train, rows: 5}"
    assert set(spec(f"{{{plain}}}").as_digested()) == {
        *("summary", "replaces", "hub", "config", "revision", "files", "generated", "local", "seed", "license"),
        *("columns", "splits", "where", "holdout"),
    }
    assert spec(f"{{{plain}}}").as_digested()["holdout"] == {"split": "test", "of": "train", "rows": 5, "seed": 0}
    assert spec("{files: {a: b}, types: {x: int}}").as_digested()["types"] == {"x": "int"}


def test_a_mirrors_files_have_the_hubs_names_but_for_what_is_parted() -> None:
    held = spec("{hub: a, splits: {train: all, dev: all, test: final}, holdout: {split: dev, of: train, rows: 1}}")
    assert [held.file_stem(split) for split in held.split_names] == ["train", "dev", "final"]
    renamed = spec("{hub: a, splits: {train: train, test: validation}}")
    assert [renamed.file_stem(split) for split in renamed.split_names] == ["train", "validation"]
    assert spec("{local: [test]}").file_stem("test") == "test"


@pytest.mark.parametrize(
    ("text", "value"),
    [("x", "x"), ("true", True), ("1", 1), ("[x, y]", ["x", "y"]), ("[1, x]", [1, "x"])],
)
def test_where_keeps_the_type_of_its_values(text: str, value: object) -> None:
    where = spec(f"{{files: {{test: x}}, where: {{a: {text}}}}}").where
    assert where == {"a": value}
    assert type(where["a"]) is type(value)
