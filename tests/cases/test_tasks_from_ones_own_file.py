"""A task is drafted from a file of one's own rows: it passes check, parts groups whole, and gives no row away."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import Catalog
from slmbench.checks import check_task
from slmbench.datasets import Dataset, fetch_rows
from slmbench.drafts import Wishes
from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.lengths import Ruler
from slmbench.paths import bundled_root
from slmbench.scaffold import NewTask, new_task
from slmbench.schema import DatasetSpec
from slmbench.task import Task, load_task

PAINS = ("chest pain", "a dry cough", "low back pain", "a red eye", "ankle swelling")
CODES = ("R07", "R05", "M54", "H57")


def notes(n: int = 60, patients: int = 12) -> list[dict[str, Any]]:
    rng = random.Random(3)
    return [
        {
            "patient_id": f"p{i % patients}",
            "note": f"Seen on day {i}: {rng.choice(PAINS)}, since {rng.randint(1, 30)} days.",
            "code": rng.choice(CODES),
        }
        for i in range(n)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]], encoding: str = "utf-8", **options: Any) -> Path:
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def drafted(path: Path, to: Path, **wishes: Any) -> tuple[NewTask, Task, Catalog]:
    made = new_task("mine", str(to), rows_of=str(path), wishes=Wishes(**wishes))
    catalog = Catalog([bundled_root(), str(to)])
    return made, load_task("mine", catalog), catalog


def messages(i: int, turns: int = 1) -> list[dict[str, str]]:
    said = [{"role": "system", "content": "Be kind."}] if i % 2 else []
    for turn in range(turns):
        said += [
            {"role": "user", "content": f"How is {i} and {turn}?"},
            {"role": "assistant", "content": f"Well, number {i * 7 + turn} is fine."},
        ]
    return said


def kinds() -> dict[str, tuple[list[dict[str, Any]], str]]:
    """name -> rows, and the kind of task that they make."""
    letters = "ABCD"
    return {
        "classes": (notes(), "choice"),
        "answers": ([{"question": f"What is {i} and {i}?", "answer": str(2 * i)} for i in range(20)], "generate"),
        "long_answers": (
            [
                {
                    "report": f"Patient {i} came in.\nHe left.",
                    "summary": f"He came and went, number {i}, and all was well.",
                }
                for i in range(20)
            ],
            "generate",
        ),
        "alpaca": (
            [{"instruction": f"Count to {i}", "input": "aloud" * (i % 2), "output": f"one to {i}"} for i in range(20)],
            "generate",
        ),
        "messages": ([{"messages": messages(i)} for i in range(20)], "generate"),
        "multi_turn": ([{"messages": messages(i, 2)} for i in range(20)], "generate"),
        "sharegpt": (
            [
                {
                    "id": i,
                    "conversations": [
                        {"from": "human", "value": f"Is {i} ok?"},
                        {"from": "gpt", "value": f"Yes, {i}."},
                    ],
                }
                for i in range(20)
            ],
            "generate",
        ),
        "options": (
            [
                {"question": f"Which is {i}?", "choices": [f"x{i}", f"y{i}", f"z{i}"], "answer": i % 3}
                for i in range(20)
            ],
            "choice",
        ),
        "label_dicts": (
            [
                {
                    "question": f"Which is {i}?",
                    "choices": {"text": [f"x{i}", f"y{i}"], "label": ["A", "B"]},
                    "answerKey": letters[i % 2],
                }
                for i in range(20)
            ],
            "choice",
        ),
        "odd_names": ([{"Die Frage": f"Was ist {i}?", "2. Antwort": f"das {i}"} for i in range(20)], "generate"),
        "with_gaps": (
            [{"text": f"Row {i}." if i % 5 else "", "label": None if i == 7 else f"value of {i}"} for i in range(30)],
            "generate",
        ),
    }


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_a_draft_passes_check(name: str, ending: str, tmp_path: Path, nano_tokenizer: Any) -> None:
    import pandas

    rows, kind = kinds()[name]
    if ending == "csv" and any(isinstance(value, list | dict) for row in rows for value in row.values()):
        pytest.skip("a cell of CSV holds one text")
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        write_csv(path, [{key: "" if value is None else value for key, value in row.items()} for row in rows])
    elif ending == "parquet":
        pandas.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"question": "Die Frage", "answer": "2. Antwort"} if name == "odd_names" else {}
    made, task, catalog = drafted(path, tmp_path / "home", **options)
    report = check_task("mine", catalog, ruler=Ruler("nano", nano_tokenizer))
    assert report.problems == ()
    assert task.kind == kind
    train, test = task.examples("train"), task.examples("test")
    assert 0.1 < len(test) / len(train + test) < 0.35
    assert f"{len(train)} rows to train on, {len(test)} held out to be evaluated" in made.notes


def test_rows_of_a_group_are_on_one_side_wherever_they_stand(tmp_path: Path) -> None:
    rows = notes()
    made, task, _ = drafted(write_csv(tmp_path / "notes.csv", rows), tmp_path / "home", group="patient_id")
    train, test = task.examples("train"), task.examples("test")
    assert len(train) + len(test) == 60
    sides = [{example.cluster for example in part} for part in (train, test)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 12
    n = [len(part) for part in (train, test, *sides)]
    said = f"{n[0]} rows to train on, {n[1]} held out to be evaluated, of {n[2]} and {n[3]} groups"
    assert made.notes[-1] == said
    random.Random(1).shuffle(rows)
    _, again, _ = drafted(write_csv(tmp_path / "shuffled.csv", rows), tmp_path / "other", group="patient_id")
    assert {example.cluster for example in again.examples("test")} == sides[1]


def test_no_row_of_the_file_is_in_what_travels_unless_told(tmp_path: Path) -> None:
    rows = notes()
    path = write_csv(tmp_path / "notes.csv", rows)
    made, _, _ = drafted(path, tmp_path / "home", group="patient_id")
    folder = tmp_path / "home" / "tasks" / "mine"
    assert (folder / "notes.csv").read_bytes() == path.read_bytes()
    assert "notes.csv" in (folder / ".gitignore").read_text().splitlines()
    for written in made.files:
        if not written.endswith("notes.csv"):
            text = Path(written).read_text()
            assert not [row for row in rows if row["note"] in text or f'"{row["patient_id"]}"' in text]
    new = new_task("real", str(tmp_path / "open"), rows_of=str(path), wishes=Wishes(real_samples=True))
    golden = [json.loads(line) for line in (tmp_path / "open/tasks/real/samples.jsonl").read_text().splitlines()]
    assert [row["note"] for row in golden] == [row["note"] for row in rows[:4]]
    assert all(Path(written).is_file() for written in new.files) and len(new.files) > 3


def test_an_excel_file_of_another_country_is_read_as_it_is_told(tmp_path: Path, nano_tokenizer: Any) -> None:
    rows = [{"Frage": f"Wie groß ist {i}?", "Antwort": f"größer als {i}"} for i in range(12)]
    path = write_csv(tmp_path / "Fragen (neu).csv", rows, "cp1252", delimiter=";")
    with pytest.raises(DataError, match=r"declare `read: {encoding: cp1252}`"):
        drafted(path, tmp_path / "home")
    assert not (tmp_path / "home").exists()
    _, task, catalog = drafted(path, tmp_path / "home", encoding="cp1252")
    assert "größer" in task.examples("train")[0].answer
    assert check_task("mine", catalog, ruler=Ruler("nano", nano_tokenizer)).problems == ()


@pytest.mark.parametrize(
    ("text", "wishes", "said"),
    [
        ("a,b,c\n" + "1,2,3\n" * 9, {}, r"which column asks, and which one answers\? Its columns are 'a', 'b', 'c'"),
        ("question,answer\n1,2\n", {}, "it has 1 row, and a task that is trained and evaluated needs 8 or more"),
        ("question,answer\n" + "1,2\n" * 9, {}, "holdout needs two rows that differ at least; there is 1"),
        ("question,answer\n", {}, "0 rows"),
        ("question,answer\n" + "1,2\n" * 9, {"group": "patient"}, "--group: there is no column 'patient'"),
        (
            "question,answer\n1,2\n",
            {"group": "patient", "answer": "answr"},
            "'patient'.*; --answer: there is no column 'answr'; did you mean 'answer'.*; it has 1 row,",
        ),
        ("question,answer\n" + "1,2\n" * 9, {"answer": "anwser"}, "--answer: .*'anwser'; did you mean 'answer'"),
        ("id,question,answer\n" + "".join(f"1,q{i},a{i}\n" for i in range(9)), {"group": "id"}, "two groups of 'id'"),
    ],
)
def test_what_cannot_be_a_task_leaves_nothing_behind(
    text: str, wishes: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SlmbenchError, match=said):
        drafted(tmp_path / "t.csv", tmp_path / "home", **wishes)
    assert not (tmp_path / "home").exists()


def held(folder: Path, **holdout: Any) -> Dataset:
    return Dataset("d", DatasetSpec(files={"train": "t.jsonl"}, holdout=holdout), str(folder))


def test_a_share_is_met_as_nearly_as_whole_groups_allow(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [{"n": i, "who": rng.randint(0, 40)} for i in range(400)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for share in (0.05, 0.2, 0.5, 0.9):
        made = held(tmp_path, share=share, group="who")
        test, train = (fetch_rows(made, split).rows for split in ("test", "train"))
        assert len(test) + len(train) == 400
        assert abs(len(test) / 400 - share) < 0.03
        assert not {row["who"] for row in test} & {row["who"] for row in train}
    other = fetch_rows(held(tmp_path, share=0.2, group="who", seed=1), "test").rows
    assert {row["who"] for row in other} != {
        row["who"] for row in fetch_rows(held(tmp_path, share=0.2, group="who"), "test").rows
    }
    assert len(fetch_rows(held(tmp_path, rows=30), "test").rows) == 30


@pytest.mark.parametrize(
    ("rows", "holdout", "said"),
    [
        ([{"n": 1, "who": "a"}, {"n": 2, "who": ""}], {"group": "who"}, "row 1 has no 'who'"),
        ([{"n": 1, "who": "a"}, {"n": 2, "who": None}], {"group": "who"}, "row 1 has no 'who'"),
        ([{"n": 1}, {"n": 2}], {"group": "who"}, "holdout.group names 'who', which row 0 lacks; it has: n"),
        ([{"n": 1}, {"n": 1}], {}, "two rows that differ at least; there is 1"),
        ([{"n": 1, "who": "a"}, {"n": 2, "who": "a "}], {"group": "who"}, "two groups of 'who' at least; there is 1"),
    ],
)
def test_a_side_without_rows_is_an_error(
    rows: list[dict[str, Any]], holdout: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in ("train", "test"):
        with pytest.raises(DataError, match=said):
            fetch_rows(held(tmp_path, share=0.5, **holdout), split)


def test_a_question_that_two_groups_share_is_not_trained_on(tmp_path: Path) -> None:
    rows = [{"q": f"question {i % 10}", "who": str(i)} for i in range(40)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = DatasetSpec(files={"train": "t.jsonl"}, columns=["q"], holdout={"share": 0.2, "group": "who"})
    made = Dataset("d", spec, str(tmp_path))
    test, train = (fetch_rows(made, split).rows for split in ("test", "train"))
    assert len(test) == 8
    assert not {row["q"] for row in test} & {row["q"] for row in train}


def test_rows_that_are_empty_where_they_must_not_be_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("q,a,b\n1,x,\n2,,\n3, ,\n4,y,\n")
    spec = DatasetSpec(files={"test": "t.csv"}, filled=["a"])
    rows = fetch_rows(Dataset("d", spec, str(tmp_path)), "test")
    assert [row["q"] for row in rows.rows] == ["1", "4"]
    assert rows.left_out == {"a": 2}
    with pytest.raises(DataError, match="'b', which `filled` names, is empty in every row"):
        fetch_rows(Dataset("d", DatasetSpec(files={"test": "t.csv"}, filled=["b"]), str(tmp_path)), "test")


def test_the_command_says_what_it_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from slmbench.cli import main

    path = write_csv(tmp_path / "notes.csv", notes())
    assert main(["new", "task", "mine", "--from", str(path), "--to", str(tmp_path / "home")]) == 0
    said = capsys.readouterr().err
    assert "'note' asks, 'code' is one of 4 labels, which task.yaml names" in said
    assert "'patient_id' may say whose row it is: add --group patient_id" in said
    assert "made up, none of them a row of the file" in said
    assert main(["new", "task", "x", "--group", "a", "--to", str(tmp_path)]) == 2
    assert "--from" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"nothere\.csv"):
        new_task("y", str(tmp_path), rows_of=str(tmp_path / "nothere.csv"))
    assert not (tmp_path / "tasks").exists()


SECRET = "Meyer"


def private(i: int) -> dict[str, dict[str, Any]]:
    """form -> a row in which every text, and every key that is no column's, names a person."""
    texts = [f"{SECRET} took {name} on day {i}" for name in ("aspirin", "iron", "zinc")]
    return {
        "answers": {"question": f"Who is {SECRET} {i}?", "answer": f"{SECRET} is number {i}"},
        "extra_context": {"question": f"{SECRET} {i}?", "context": f"{SECRET} came {i}", "answer": f"{SECRET}: {i}"},
        "texts_as_gold": {"question": f"{SECRET} {i}?", "choices": texts, "answer": texts[i % 3]},
        "labels_beside_texts": {
            "question": f"{SECRET} {i}?",
            "choices": {"text": texts, "label": ["A", "B", "C"], "explained": f"{SECRET} {i}"},
            "answer": "ABC"[i % 3],
        },
        "texts_beside_labels_as_gold": {
            "question": f"{SECRET} {i}?",
            "choices": {"text": texts, "label": [f"{SECRET} 1", f"{SECRET} 2", f"{SECRET} 3"]},
            "answer": f"{SECRET} {i % 3 + 1}",
        },
        "texts_by_label": {
            "question": f"{SECRET} {i}?",
            "choices": dict(zip("ABC", texts, strict=True)),
            "answer": "ABC"[i % 3],
        },
        "number_as_gold": {"question": f"{SECRET} {i}?", "choices": texts, "answer": i % 3},
        "messages": {"messages": [{"role": r, "content": f"{SECRET} {i}, {r}"} for r in ("user", "assistant")]},
    }


@pytest.mark.parametrize("form", list(private(0)))
def test_no_word_of_the_rows_leaves_the_file(form: str, tmp_path: Path, nano_tokenizer: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(private(i)[form]) + "\n" for i in range(20)))
    _, _, catalog = drafted(path, tmp_path / "home")
    report = check_task("mine", catalog, ruler=Ruler("nano", nano_tokenizer))
    assert report.problems == ()
    golden = (tmp_path / "home" / "tasks" / "mine" / "samples.jsonl").read_text()
    assert json.loads(golden.splitlines()[0]).keys() == private(0)[form].keys()
    for file in (tmp_path / "home").rglob("*"):
        if file.is_file() and file.name != "rows.jsonl":
            assert SECRET not in file.read_text(), file


@pytest.mark.parametrize("odd", [["text", "b"], "no turns", [{"role": "user"}], [{"role": "user", "content": None}], 7])
def test_a_conversation_of_another_form_is_told_with_its_row(odd: Any, tmp_path: Path) -> None:
    rows = [{"messages": messages(i)} for i in range(20)]
    rows[3]["messages"] = odd
    rows[11]["messages"] = odd
    (tmp_path / "t.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"t\.json: rows 3, 11 \(from 0\): 'messages' is not a list of turns"):
        drafted(tmp_path / "t.json", tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("first", [None, []])
def test_a_conversation_that_is_empty_is_left_out(first: Any, tmp_path: Path) -> None:
    rows = [{"messages": first}, *({"messages": messages(i)} for i in range(20))]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    made, task, _ = drafted(tmp_path / "t.json", tmp_path / "home")
    assert "1 of 21 rows have no 'messages' and are left out" in made.notes
    assert len(task.examples("train")) + len(task.examples("test")) == 20


def test_a_row_that_cannot_be_scored_is_told_by_its_place_in_the_file(tmp_path: Path) -> None:
    rows = [{"question": f"Which, {i}?", "choices": ["red", "blue"], "answer": i % 2} for i in range(20)]
    rows[17]["answer"] = -1
    (tmp_path / "t.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"row \d+ \(17 before others were left out\): gold: .*-1"):
        drafted(tmp_path / "t.json", tmp_path / "home")
    assert not (tmp_path / "home").exists()
