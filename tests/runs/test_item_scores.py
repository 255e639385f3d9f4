"""Item scores as columns, beside the dicts of ids that they are made of."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import FileError
from slmbench.runs import ALONE, aligned, item_hash, make_item_scores, read_item_scores, read_record
from slmbench.seal import sealed
from tests.leaderboard.conftest import make_run

IDS = st.lists(st.text(max_size=6), unique=True, max_size=20)


def of(ids: list[str], column: list[float], labels: list[str | None] | None = None) -> Any:
    clusters = dict(zip(ids, labels or [None] * len(ids), strict=True))
    return make_item_scores(["m"], {"m": dict(zip(ids, column, strict=True))}, clusters)


def test_an_items_hash_is_the_first_eight_bytes_of_its_ids_sha256() -> None:
    assert item_hash("item-7") == int(hashlib.sha256(b"item-7").hexdigest()[:16], 16)
    item_hash("\ud800")  # Half a character has one, too.


def test_scores_are_float32_where_that_loses_nothing_and_float64_else() -> None:
    assert of(["a", "b"], [0.0, 1.0]).scores["m"].dtype == np.float32
    assert of(["a", "b"], [0.1, 1.0]).scores["m"].dtype == np.float64
    assert of(["a", "b"], [0.1, 1e299]).scores["m"].tolist() == [0.1, 1e299]


def test_items_without_a_score_are_nan_and_items_without_a_cluster_alone() -> None:
    made = make_item_scores(["m"], {"m": {"b": 1.0}}, {"a": "x", "b": None, "c": "x"})
    assert np.isnan(made.scores["m"]).tolist() == [True, False, True]
    first, second, third = made.clusters.tolist()
    assert first == third != second == ALONE
    assert make_item_scores(["m"], {}, {"a": None}).clusters is None


@given(a=IDS, b=IDS)
def test_aligned_is_the_join_that_pandas_makes(a: list[str], b: list[str]) -> None:
    left, right = of(a, [float(n) for n in range(len(a))]), of(b, [float(-n) for n in range(len(b))])
    one, other = aligned(left, right)
    frames = [pd.DataFrame({"item": x.items, "m": x.scores["m"].astype(float)}) for x in (left, right)]
    joined = frames[0].merge(frames[1], on="item", how="inner")
    assert one.items.tolist() == other.items.tolist() == joined["item"].tolist()
    assert one.scores["m"].tolist() == joined["m_x"].tolist() and other.scores["m"].tolist() == joined["m_y"].tolist()


def test_the_file_is_parquet_that_others_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "one", {"f1": [0.1, 0.5, 1.0], "exact": [0, 0, 1]}, clusters=["a", None, "a"])
    frame = pd.read_parquet(folder / "item_scores.parquet")
    assert list(frame) == ["item", "cluster", "f1", "exact"]
    assert frame["f1"].tolist() == [0.1, 0.5, 1.0] and frame["exact"].tolist() == [0, 0, 1]
    assert frame["item"].tolist() == [item_hash(f"item-000{n}") for n in range(3)]
    assert frame["cluster"].tolist()[1] == ALONE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.assign(more=1.0), "for 1 metrics"),
        (lambda frame: frame.assign(item=frame["item"].astype(str)), "columns are .*string, int64, float"),
        (lambda frame: frame.drop(columns="cluster"), "for 1 metrics"),
        (lambda frame: frame.assign(**{"exact_match/strict": [1.0, math.inf]}), "a score is infinite"),
        (lambda frame: frame.assign(**{"exact_match/strict": [1.0, 1.0]}), "the mean of its items' scores is 1.0"),
        (lambda frame: frame.assign(**{"exact_match/strict": [1.5, -0.5]}), "outside the metric's range"),
        (lambda frame: frame.assign(**{"exact_match/strict": [0.5, None]}), "a value is null"),
        (lambda frame: frame.iloc[:0], "has 0 scores"),
    ],
)
def test_a_file_that_is_digested_anew_has_to_hold_what_the_record_says(change: Any, said: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path, "one", [1, 0])
    path, of_record = folder / "item_scores.parquet", folder / "run.json"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    record = json.loads(of_record.read_text()) | {"item_scores_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    of_record.write_text(json.dumps(sealed(record)))
    with pytest.raises(FileError, match=said):
        read_item_scores(folder, read_record(folder))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "one", [1, 0])
    path = folder / "item_scores.parquet"
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[: len(whole) // 2], whole[:40] + bytes(40) + whole[80:]):
        path.write_bytes(data)
        record = read_record(folder) | {"item_scores_sha256": hashlib.sha256(data).hexdigest()}
        with pytest.raises(FileError, match=r"item_scores\.parquet|metric"):
            read_item_scores(folder, record)
