"""Pulling and verifying mirrors. The hub is stood in for where it would answer, and real where it doesn't."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmbench.catalog import Catalog
from slmbench.datasets import Rows, fetch_rows, load_dataset_spec
from slmbench.errors import DataError, OfflineError, UsageError
from slmbench.foreign import decode_json
from slmbench.mirror import pull, verify
from slmbench.paths import bundled_root, shown
from tests.damage import Damage, damages

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLAIN = "hub: someone/plain\nrevision: main\nlicense: mit\ncolumns: [q, a]\nsplits: {train: train, test: validation}\n"
RENAMED = "hub: someone/renamed\nconfig: big\ncolumns: {q: Question, a: Answer}\nsplits: {test: test}\n"
FILES = "files: {test: rows.jsonl}\n"
HELD = (
    "hub: someone/held\ncolumns: [q, kind]\nwhere: {kind: a}\nsplits: {train: train, test: train, dev: validation}\n"
    "holdout: {split: test, of: train, rows: 4, seed: 1}\n"
)
LOCAL = "local: [train, test]\ncolumns: [q, a]\n"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    folder = tmp_path / "root" / "registry" / "datasets"
    folder.mkdir(parents=True)
    for name, yaml in {"plain": PLAIN, "renamed": RENAMED, "files": FILES, "held": HELD, "local": LOCAL}.items():
        (folder / f"{name}.yaml").write_text(yaml)
    return Catalog([str(tmp_path / "root")])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub that answers `load_dataset`; the list holds what it was asked."""
    import datasets
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def load_dataset(path: str, name: str | None, *, split: str, revision: str | None, **options: Any) -> Any:
        asked.append({"path": path, "name": name, "split": split, "revision": revision})
        if path == "someone/held":
            return [{"q": f"{split} {i}?", "kind": "ab"[i % 2], "url": "u"} for i in range(24)]
        n = {"train": 3, "validation": 2, "test": 2}[split]
        if path == "someone/renamed":
            return [{"Question": f"{split} {i}?", "Answer": f"α{i}\u2028", "url": "u"} for i in range(n)]
        return [{"q": f"{split} {i}?", "a": i, "extra": None} for i in range(n)]

    class HubApi:
        def dataset_info(self, repo: str, **options: Any) -> Any:
            return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "HfApi", HubApi)
    monkeypatch.setattr("slmbench.mirror._rows.hub_is_offline", lambda: False)
    return asked


@pytest.fixture
def mirror(tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]]) -> Path:
    """A mirror of both data sets of the hub, as `pull` writes it."""
    pull(["plain", "renamed"], str(tmp_path / "mirror"), catalog)
    return tmp_path / "mirror"


def _told(catalog: Catalog, mirror: Path, names: Iterable[str] | None = None) -> list[str]:
    report = verify(str(mirror), catalog, names)
    return [f"{os.path.basename(one.path)}:{one.line}: {one.message}" for one in report.problems]


def test_pull_writes_every_split_under_the_hubs_names_with_checksums(
    tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]], said: list[str]
) -> None:
    to = tmp_path / "mirror"
    written = pull(["plain", "renamed", "plain"], str(to), catalog)
    assert [os.path.relpath(path, to) for path in written] == [
        "plain/train.jsonl",
        "plain/validation.jsonl",
        "plain/checksums.json",
        "renamed/test.jsonl",
        "renamed/checksums.json",
    ]
    assert said == ["plain: train, 3 rows", "plain: validation, 2 rows", "renamed: test, 2 rows"]
    first = json.loads((to / "renamed" / "test.jsonl").read_text().splitlines()[0])
    assert first == {"Question": "test 0?", "Answer": "α0\u2028"}  # Declared columns, by the hub's names.
    data = (to / "plain" / "train.jsonl").read_bytes()
    checksums = json.loads((to / "plain" / "checksums.json").read_text())
    assert checksums["files"]["train.jsonl"] == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "rows": 3,
        "bytes": len(data),
    }
    del checksums["files"], checksums["declaration"]
    assert checksums == {
        "schema": 1,
        "dataset": "plain",
        "hub": "someone/plain",
        "config": None,
        "revision": COMMIT,
        "license": "mit",
    }
    assert sorted(path.name for path in (to / "plain").iterdir()) == [
        "checksums.json",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_resolved_commit_is_what_is_fetched(tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]]) -> None:
    pull(["plain"], str(tmp_path / "mirror"), catalog)
    assert {one["revision"] for one in hub} == {COMMIT}


def test_a_mirror_gives_the_rows_and_the_digest_of_the_hub(
    catalog: Catalog, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plain", "renamed"):
        dataset = load_dataset_spec(catalog, name)
        hub: Rows = fetch_rows(dataset, "test", use_mirror=False)
        monkeypatch.setenv("SLMBENCH_DATA", str(mirror))
        carried = fetch_rows(dataset, "test")
        assert (hub.source, carried.source) == ("hub", "mirror")
        assert carried.rows == hub.rows and carried.content_sha256 == hub.content_sha256


def test_a_second_pull_replaces_its_own_files_and_verifies(catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "train.jsonl").write_text("damaged")
    pull(["plain"], str(mirror), catalog)
    assert _told(catalog, mirror) == []


def test_files_that_pull_did_not_write_are_not_overwritten(
    tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]]
) -> None:
    mine = tmp_path / "mirror" / "plain" / "validation.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"validation\.jsonl was not written by `data pull`"):
        pull(["renamed", "plain"], str(tmp_path / "mirror"), catalog)
    assert mine.read_text() == "mine" and hub == []  # Nothing was fetched either.


def test_pull_refuses_an_unknown_name_and_a_set_of_files(tmp_path: Path, catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        pull(["plian"], str(tmp_path / "mirror"), catalog)
    with pytest.raises(UsageError, match="nothing to pull"):
        pull(["files"], str(tmp_path / "mirror"), catalog)
    with pytest.raises(UsageError, match=r"data set 'local' is never fetched: .*nothing to pull"):
        pull(["local"], str(tmp_path / "mirror"), catalog)
    assert not (tmp_path / "mirror").exists()


def test_nothing_is_written_where_a_split_fails(
    tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    working = datasets.load_dataset

    def failing(path: str, name: str | None, *, split: str, **options: Any) -> Any:
        if split == "validation":
            raise ConnectionError("reset by peer")
        return working(path, name, split=split, **options)

    monkeypatch.setattr(datasets, "load_dataset", failing)
    with pytest.raises(OfflineError, match="reset by peer"):
        pull(["plain"], str(tmp_path / "mirror"), catalog)
    assert not (tmp_path / "mirror").exists()


def test_dates_are_written_as_text_and_pictures_refused(
    tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows: list[dict[str, Any]] = [{"q": "?", "a": datetime.date(2026, 1, 2)}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    pull(["plain"], str(tmp_path / "mirror"), catalog)
    assert '"2026-01-02"' in (tmp_path / "mirror" / "plain" / "train.jsonl").read_text()
    for value, said in ((b"\x89PNG", "type bytes"), (float("inf"), "JSON compliant")):
        rows[0]["a"] = value
        with pytest.raises(DataError, match=f"row 0: can't be written as JSON: .*{said}"):
            pull(["plain"], str(tmp_path / "other"), catalog)


def test_a_sound_mirror_verifies(catalog: Catalog, mirror: Path) -> None:
    report = verify(str(mirror), catalog)
    assert (report.ok, report.problems, report.notices, report.files) == (True, (), (), 3)


def test_a_flipped_byte_is_a_problem(catalog: Catalog, mirror: Path) -> None:
    path = mirror / "plain" / "train.jsonl"
    path.write_bytes(path.read_bytes().replace(b"train 1?", b"train 7?"))
    (told,) = _told(catalog, mirror)
    assert told.startswith("train.jsonl:0: has sha256 ")


def test_a_missing_row_is_told_by_bytes_and_rows(catalog: Catalog, mirror: Path) -> None:
    path = mirror / "plain" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    told = _told(catalog, mirror)
    assert len(told) == 2 and "bytes" in told[0] and "has 2 rows, not 3" in told[1]


def test_a_missing_and_an_extra_file_are_problems(catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "train.jsonl").rename(mirror / "plain" / "other.jsonl")
    told = _told(catalog, mirror)
    assert told[0].startswith("other.jsonl:0: is not in checksums.json")
    assert told[1].startswith("train.jsonl:0: is in checksums.json, but can't be read")


def test_lines_that_are_no_json_or_lack_a_column_are_told_with_their_numbers(catalog: Catalog, mirror: Path) -> None:
    path = mirror / "plain" / "train.jsonl"
    path.write_text('{"q": 1, "a": 2}\n{"q": 1}\n[]\n{oops\n')
    told = "\n".join(_told(catalog, mirror))
    for part in ("train.jsonl:2: no column 'a'", "train.jsonl:3: expected a JSON object", "train.jsonl:4: not JSON"):
        assert part in told


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "nested more than 60 levels deep"),
        ('{"q": 1, "a": ' + "[" * 5000 + "]" * 5000 + "}", "nested more than 60 levels deep"),
        ('{"q": 1, "a": ' + "7" * 9000 + "}", "a number of 9,000 digits"),
        ('{"q": 1, "a": 2, "\\ud800": 3}', "half a character"),
        ('{"q": 1, "a": 2, "a": 3}', 'has the key "a" twice'),
        ('{"q": 1, "a": Infinity}', "not a JSON number"),
        ('{"q": 1, "a": 2, "\0": 3}', "not JSON"),
    ],
)
def test_hostile_lines_are_told_and_end_no_check(line: str, said: str, catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "train.jsonl").write_text('{"q": 1, "a": 2}\n' + line + "\n")
    told = _told(catalog, mirror, ["plain"])
    assert any(said in one and one.startswith("train.jsonl:2: ") for one in told), told
    (mirror / "plain" / "train.jsonl").write_text(line + "\n")
    assert any("train.jsonl" in one for one in _told(catalog, mirror, ["plain"]))


def test_many_bad_lines_are_counted_and_the_first_shown(catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "train.jsonl").write_text("{oops\n" * 30)
    told = _told(catalog, mirror)
    assert sum("not JSON" in one for one in told) == 5
    assert any("25 more lines like these" in one for one in told)


def test_a_folder_without_checksums_has_its_columns_checked_and_a_notice(catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "checksums.json").unlink()
    report = verify(str(mirror), catalog, ["plain"])
    assert report.ok and report.files == 2
    assert "not written by `data pull`" in report.notices[0] and "columns checked only" in report.notices[0]
    (mirror / "plain" / "train.jsonl").write_text('{"q": 1}\n')
    (mirror / "plain" / "validation.jsonl").unlink()
    report = verify(str(mirror), catalog, ["plain"])
    assert [one.line for one in report.problems] == [1]
    assert any("no file for split 'validation'" in notice for notice in report.notices)


def test_a_parquet_file_of_ones_own_is_read_too(catalog: Catalog, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "mirror" / "plain"
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"q": ["?"], "b": ["x"]}), folder / "train.parquet")
    (folder / "validation.parquet").write_bytes(b"PAR1 not really")
    told = _told(catalog, tmp_path / "mirror")
    assert "no column 'a'" in told[0] and "not a readable Parquet file" in told[1]


def test_checksums_of_another_data_set_or_config_are_problems(catalog: Catalog, mirror: Path) -> None:
    path = mirror / "renamed" / "checksums.json"
    path.write_text(path.read_text().replace('"big"', '"small"'))
    assert _told(catalog, mirror) == ["checksums.json:0: is for config 'small'; the declaration has 'big'"]


def test_checksums_of_another_pinned_revision_are_a_problem(catalog: Catalog, mirror: Path, tmp_path: Path) -> None:
    declared = tmp_path / "root" / "registry" / "datasets" / "plain.yaml"
    declared.write_text(PLAIN.replace("revision: main", f"revision: {'f' * 40}"))
    (told,) = _told(catalog, mirror, ["plain"])
    assert f"is for revision '{COMMIT}'" in told


def test_a_split_that_is_declared_later_is_missing_from_the_checksums(
    catalog: Catalog, mirror: Path, tmp_path: Path
) -> None:
    declared = tmp_path / "root" / "registry" / "datasets" / "plain.yaml"
    declared.write_text(PLAIN.replace("{train: train,", "{train: train, more: more,"))
    assert _told(catalog, mirror, ["plain"]) == [
        "checksums.json:0: does not list 'more.jsonl', which is declared; pull it again"
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("{oops", "[]", "{}", '{"schema": 9, "files": {}}', '{"schema": 1, "files": {"x.jsonl": 3}}'),
        *("[" * 100_000, '{"schema": ' + "9" * 9000 + "}", '{"schema": 1, "files": {"\\ud800": {}}}'),
        '{"schema": 1, "files": {"a\\u0000.jsonl": {"sha256": "", "rows": 1, "bytes": 1}}}',
    ],
)
def test_broken_checksums_are_a_problem_and_no_traceback(text: str, catalog: Catalog, mirror: Path) -> None:
    (mirror / "plain" / "checksums.json").write_text(text)
    assert _told(catalog, mirror, ["plain"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_checksums_are_a_problem_that_names_them_or_say_what_they_said(
    data: st.DataObject, catalog: Catalog, mirror: Path, checksums: dict[str, Any]
) -> None:
    damage: Damage = data.draw(damages(checksums))
    (mirror / "plain" / "checksums.json").write_bytes(damage.data)
    told = _told(catalog, mirror, ["plain"])
    if not told:
        read = decode_json(damage.data, "")
        held = ("dataset", "hub", "config", "files")
        assert all(read[key] == checksums[key] for key in held)
    problems = verify(str(mirror), catalog, ["plain"]).problems
    assert all(one.path.startswith(shown(str(mirror / "plain"))) for one in problems)


@pytest.mark.parametrize("files", [1, "train.jsonl", ["train.jsonl"], {"train.jsonl": 1}, None])
def test_pull_writes_over_nothing_that_odd_checksums_seem_to_list(files: Any, catalog: Catalog, mirror: Path) -> None:
    path = mirror / "plain" / "checksums.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": files}))
    with pytest.raises(UsageError, match="was not written by `data pull`"):
        pull(["plain"], str(mirror), catalog)


@pytest.fixture
def checksums(mirror: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((mirror / "plain" / "checksums.json").read_text())
    return read


def test_checksums_cannot_name_a_file_outside_the_folder(catalog: Catalog, mirror: Path) -> None:
    path = mirror / "plain" / "checksums.json"
    path.write_text(path.read_text().replace('"train.jsonl"', '"../renamed/test.jsonl"'))
    assert any(
        "'../renamed/test.jsonl', which is not a file's name" in one for one in _told(catalog, mirror, ["plain"])
    )


@pytest.fixture
def held(tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]]) -> Path:
    """A mirror of the data set that holds rows out, as `pull` writes it."""
    pull(["held"], str(tmp_path / "held"), catalog)
    return tmp_path / "held"


def test_parted_splits_are_files_of_their_own_names(catalog: Catalog, held: Path) -> None:
    assert sorted(path.name for path in (held / "held").iterdir()) == [
        "checksums.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]
    rows = {
        name: [json.loads(line) for line in (held / "held" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test", "validation")
    }
    assert [len(rows[name]) for name in rows] == [8, 4, 12]
    asked = [{row["q"] for row in rows[name]} for name in ("train", "test")]
    assert not asked[0] & asked[1]
    assert {row["kind"] for one in rows.values() for row in one} == {"a"}
    report = verify(str(held), catalog)
    assert (report.problems, report.notices, report.files) == ((), (), 3)


def test_a_mirror_of_parted_splits_gives_the_rows_of_the_hub(
    catalog: Catalog, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset_spec(catalog, "held")
    fetched = {split: fetch_rows(dataset, split, use_mirror=False) for split in ("train", "test", "dev")}
    monkeypatch.setenv("SLMBENCH_DATA", str(held))
    for split, rows in fetched.items():
        carried = fetch_rows(dataset, split)
        assert (rows.source, carried.source) == ("hub", "mirror")
        assert carried.content_sha256 == rows.content_sha256


def test_a_mirror_from_before_rows_were_held_out_is_a_problem(catalog: Catalog, held: Path) -> None:
    folder = held / "held"
    (folder / "test.jsonl").unlink()
    checksums = json.loads((folder / "checksums.json").read_text())
    del checksums["files"]["test.jsonl"]
    (folder / "checksums.json").write_text(json.dumps(checksums))
    assert _told(catalog, held) == ["checksums.json:0: does not list 'test.jsonl', which is declared; pull it again"]


def test_parted_files_without_checksums_are_looked_for_by_their_own_names(catalog: Catalog, held: Path) -> None:
    (held / "held" / "checksums.json").unlink()
    (held / "held" / "test.jsonl").unlink()
    report = verify(str(held), catalog)
    assert report.ok and report.files == 2
    assert [notice for notice in report.notices if "no file" in notice] == [
        f"{shown(str(held / 'held'))}: no file for split 'test'"
    ]


def test_a_file_of_ones_own_in_the_place_of_held_out_rows_is_not_overwritten(
    tmp_path: Path, catalog: Catalog, hub: list[dict[str, Any]]
) -> None:
    mine = tmp_path / "mirror" / "held" / "test.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"test\.jsonl was not written by `data pull`"):
        pull(["held"], str(tmp_path / "mirror"), catalog)
    assert mine.read_text() == "mine" and hub == []


def test_local_files_are_checked_by_their_columns(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "local"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text('{"q": 1, "a": 2}\n')
    report = verify(str(tmp_path / "mirror"), catalog)
    assert report.ok and report.files == 1
    assert any("no file for split 'train'" in notice for notice in report.notices)
    (folder / "train.jsonl").write_text('{"q": 1}\n')
    assert _told(catalog, tmp_path / "mirror") == ["train.jsonl:1: no column 'a'; there are: q"]


def test_names_are_looked_up_and_strangers_are_noted(catalog: Catalog, mirror: Path) -> None:
    (mirror / "notes").mkdir()
    report = verify(str(mirror), catalog)
    assert report.ok and "so not checked: notes" in report.notices[0]
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        verify(str(mirror), catalog, ["plian"])
    with pytest.raises(UsageError, match="is not a folder"):
        verify(str(mirror / "nowhere"), catalog)
    assert _told(catalog, mirror, ["files"]) == ["files:0: is missing from the mirror"]


def test_offline_a_pull_ends_at_once_and_says_what_to_do(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(OfflineError) as caught:
        pull(["gsm8k"], str(tmp_path / "mirror"), Catalog([bundled_root()]))
    assert time.monotonic() - started < 15
    assert caught.value.exit_code == 4
    for part in (
        "openai/gsm8k",
        "HF_HUB_OFFLINE is set",
        "on a connected machine",
        "slmbench data pull gsm8k --to DIR",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "mirror").exists()


def test_a_hub_that_cannot_be_reached_is_given_up_within_seconds(tmp_path: Path) -> None:
    """A process of its own: the hub's address is read at import. Nothing listens on port 9 of this machine."""
    code = (
        "import sys, time\n"
        "from slmbench.catalog import default_catalog\n"
        "from slmbench.errors import OfflineError\n"
        "from slmbench.mirror import pull\n"
        "import datasets\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    pull(['gsm8k'], sys.argv[1], default_catalog())\n"
        "except OfflineError as error:\n"
        "    print(error.exit_code, time.monotonic() - started, error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "SLMBENCH_"))}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mirror")],
        env=environment,
        cwd=bundled_root(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    exit_code, seconds, message = done.stdout.split(" ", 2)
    assert exit_code == "4" and float(seconds) < 15
    assert "the hub can't be reached from here" in message and "slmbench data pull gsm8k" in message


def _hub_errors() -> list[Exception]:
    import datasets
    import huggingface_hub.errors as hub_errors

    return [
        ConnectionError("Couldn't reach 'x' on the Hub"),
        TimeoutError("timed out"),
        datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."),
        hub_errors.LocalEntryNotFoundError("no entry"),
        hub_errors.OfflineModeIsEnabled("offline"),
        ValueError("Couldn't find cache for x for config 'main'"),
        RuntimeError("Dataset scripts are no longer supported"),
        type("ConnectError", (Exception,), {})("of a library below"),
    ]


@pytest.mark.parametrize("number", range(8))
def test_what_the_libraries_raise_ends_as_an_offline_error(
    number: int, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    error = _hub_errors()[number]

    def failing(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", failing)
    with pytest.raises(OfflineError) as caught:
        pull(["plain"], str(tmp_path / "mirror"), catalog)
    assert type(error).__name__ in str(caught.value) and caught.value.__cause__ is error


def test_a_config_that_the_hub_does_not_have_is_a_data_error(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def failing(*args: Any, **options: Any) -> Any:
        raise ValueError("BuilderConfig 'big' not found. Available: ['small']")

    monkeypatch.setattr(datasets, "load_dataset", failing)
    with pytest.raises(DataError, match="BuilderConfig 'big' not found"):
        pull(["renamed"], str(tmp_path / "mirror"), catalog)
