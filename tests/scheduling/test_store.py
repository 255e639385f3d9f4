"""Results that go through a store: whole or not there, as they were, and each attempt apart from others."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.scheduling import Job, JobBook, JobOutcome, ResultStore, StoredJobs, StoreOptions, _stored

MakeJob = Callable[..., Job]
ONE, TWO = "0" * 16, "1" * 16


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    yield "memory://of-tests/store"
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/of-tests", recursive=True)


def outcome(**made: str) -> JobOutcome:
    return JobOutcome(status="done", made=made, seconds=1.0, started=1.0, ended=2.0, host="h")


def written(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / "runs" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def contents(store: ResultStore, name: str, data: bytes | None = None) -> bytes:
    """What a file of a store holds, after `data` was put there past the store."""
    filesystem, path = fsspec.core.url_to_fs(f"{store.url}/{name}")
    if data is not None:
        filesystem.pipe_file(path, data)
    return bytes(filesystem.cat_file(path))


def of(attempt: str, name: str) -> str:
    return f"jobs/key/attempts/{attempt}/{name}"


def test_what_was_committed_is_fetched_as_it_was(tmp_path: Path, url: str) -> None:
    store = ResultStore(url)
    written(tmp_path, x="1", y="é" * 9)
    (tmp_path / "runs" / "a" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "deep" / "er" / "z").write_bytes(b"\0" * 5000)
    (tmp_path / "log").write_text("said", encoding="utf-8")
    assert store.committed("key", ONE) is None and store.attempts("key") == []
    store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path), str(tmp_path / "log"))
    found = store.committed("key", ONE)
    assert found is not None and found.outcome == outcome(k="runs/a")
    [folder] = store.made("key", found)
    store.fetch(folder.prefix, folder.files, str(tmp_path / "there"))
    store.fetch_log("key", found, str(tmp_path / "log-there"))
    there = {str(path.relative_to(tmp_path / "there")): path for path in (tmp_path / "there").rglob("*")}
    assert {name for name, path in there.items() if path.is_file()} == {"x", "y", "deep/er/z"}
    assert there["y"].read_text(encoding="utf-8") == "é" * 9 and there["deep/er/z"].read_bytes() == b"\0" * 5000
    assert (tmp_path / "log-there").read_text() == "said"


def test_an_upload_that_was_cut_off_is_not_seen(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultStore(url)
    written(tmp_path, x="1", y="2")
    real = type(store._fs).put_file

    def fails(self: Any, source: str, to: str, **more: object) -> None:
        if source.endswith("y"):
            raise ConnectionError("reset")
        real(self, source, to, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(store._fs), "put_file", fails)
        with pytest.raises(SlmbenchError, match=r"made/runs/a/y: the store failed: ConnectionError: reset; see"):
            store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path), "")
    assert store.attempts("key") == [ONE] and store.committed("key", ONE) is None
    store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path), "")
    whole = contents(store, of(ONE, "commit.json"))
    contents(store, of(ONE, "commit.json"), whole[:-9])  # As on a disk without renames.
    assert store.committed("key", ONE) is None
    contents(store, of(ONE, "commit.json"), whole.replace(b'"seconds": 1.0', b'"seconds": 7.0'))
    with pytest.raises(SlmbenchError, match=r"commit.json: is damaged: its sha256"):
        store.committed("key", ONE)


def test_a_damaged_or_missing_file_is_refused_by_its_name(tmp_path: Path, url: str) -> None:
    store = ResultStore(url)
    written(tmp_path, x="1", y="2")
    store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path), "")
    found = store.committed("key", ONE)
    assert found is not None
    [folder] = store.made("key", found)
    for data, said in [(b"3", "its sha256 is"), (b"22", "it has 2 bytes, and its manifest says 1")]:
        contents(store, of(ONE, "made/runs/a/y"), data)
        with pytest.raises(SlmbenchError, match=rf"store/jobs/key/attempts/{ONE}/made/runs/a/y: is damaged: {said}"):
            store.fetch(folder.prefix, folder.files, str(tmp_path / "there"))
    store.remove(of(ONE, "made/runs/a/y"))
    with pytest.raises(SlmbenchError, match=r"runs/a/y: is not there, though its commit names it"):
        store.fetch(folder.prefix, folder.files, str(tmp_path / "there"))
    assert not (tmp_path / "there").exists() and not list(tmp_path.glob(".building*"))


def test_a_second_attempt_wins_whole(tmp_path: Path, url: str) -> None:
    store = ResultStore(url)
    written(tmp_path / "one", x="1", only_here="1")
    store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path / "one"), "")
    written(tmp_path / "two", x="2")
    store.commit("key", TWO, outcome(k="runs/a"), str(tmp_path / "two"), "")
    place = tmp_path / "there"
    for attempt, names in [(ONE, {"x", "only_here"}), (TWO, {"x"})]:
        found = store.committed("key", attempt)
        assert found is not None
        [folder] = store.made("key", found)
        store.fetch(folder.prefix, folder.files, str(place))
        assert {path.name for path in place.iterdir()} == names
    assert (place / "x").read_text() == "2"
    store.drop("key", ONE)
    assert store.attempts("key") == [TWO] and store.committed("key", ONE) is None


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a//x", "a\\x", "C:x", ""])
def test_a_manifest_that_leaves_its_folder_is_refused(tmp_path: Path, url: str, path: str) -> None:
    store = ResultStore(url)
    written(tmp_path, x="1")
    store.commit("key", ONE, outcome(k="runs/a"), str(tmp_path), "")
    from slmbench.seal import canonical_sha256

    for at in ("file", "place"):
        value = json.loads(contents(store, of(ONE, "commit.json")))
        value.pop("sha256", None)
        value["made"] = {"runs/a": {path: value["made"]["runs/a"]["x"]}} if at == "file" else {path: {}}
        changed = {**value, "sha256": canonical_sha256(value)}
        kept = contents(store, of(ONE, "commit.json"))
        contents(store, of(ONE, "commit.json"), json.dumps(changed).encode())
        with pytest.raises(FileError, match="a path below the folder"):
            store.committed("key", ONE)
        contents(store, of(ONE, "commit.json"), kept)


def test_a_link_to_a_folder_is_not_dropped_silently(tmp_path: Path, url: str) -> None:
    written(tmp_path, x="1")
    (tmp_path / "runs" / "a" / "link").symlink_to(tmp_path)
    with pytest.raises(SlmbenchError, match="link: a link to a folder can't be put into a store"):
        ResultStore(url).commit("key", ONE, outcome(k="runs/a"), str(tmp_path), "")


def test_what_no_store_can_be_is_refused() -> None:
    for url in ("/a/folder", "file://", "simplecache::s3://a/b"):
        with pytest.raises(UsageError, match="expected a URL, as file:///shared/store or s3://bucket/folder"):
            ResultStore(url)
    with pytest.raises(UsageError, match="--store nothing://a"):
        ResultStore("nothing://a")


@pytest.fixture
def stored(tmp_path: Path, url: str) -> Callable[..., StoredJobs]:
    def make(out: str = "out", reads: tuple[str, ...] = ()) -> StoredJobs:
        return StoredJobs(JobBook(str(tmp_path / out / "matrix")), StoreOptions(url=url, reads=lambda job: reads))

    return make


def do(store: ResultStore, job: Job, attempt: str, node: Path) -> None:
    """What a node does of an attempt, in this process."""
    asked, _, reads = store.asked(job.key, attempt)
    for folder in reads:
        store.fetch(folder.prefix, folder.files, str(node / folder.place))
    book = JobBook(str(node / "matrix"))
    with book.attempt(asked) as begun:
        for key in job.makes:
            (node / "runs" / key).mkdir(parents=True, exist_ok=True)
            (node / "runs" / key / "run").write_text(str(sorted(folder.place for folder in reads)))
        outcome = begun.done({key: f"runs/{key}" for key in job.makes})
    store.commit(job.key, attempt, outcome, str(node), book.log_path(job.key))


def test_what_nodes_commit_comes_into_the_output_folder_and_goes_to_others(
    tmp_path: Path, make_job: MakeJob, stored: Callable[..., StoredJobs]
) -> None:
    first, second, driver = make_job("first"), make_job("second"), stored()
    attempt = driver.begin(first)
    assert attempt is not None and driver._book.state(first).state == "running"
    assert not driver.collect(first.key)
    do(driver.store, first, attempt, tmp_path / "node1")
    assert driver.collect(first.key) and driver._book.state(first).state == "done"
    assert (tmp_path / "out" / "runs" / "first" / "run").read_text() == "[]"
    # One that was begun later has it in its output folder alone.
    later = stored(reads=("runs/first",))
    attempt = later.begin(second)
    assert attempt is not None
    do(later.store, second, attempt, tmp_path / "node2")
    assert later.collect(second.key)
    assert (tmp_path / "node2" / "runs" / "first" / "run").read_text() == "[]"
    assert (tmp_path / "out" / "runs" / "second" / "run").read_text() == "['runs/first']"


def test_what_was_committed_before_a_driver_died_is_not_done_again_and_the_rest_is_removed(
    tmp_path: Path, make_job: MakeJob, stored: Callable[..., StoredJobs]
) -> None:
    job, driver = make_job("job"), stored()
    lost = driver.begin(job)
    assert lost is not None
    driver.died(job.key)
    assert (driver._book.state(job).state, driver._book.state(job).starts) == ("planned", 1)
    attempt = driver.begin(job)
    assert attempt is not None and driver.store.attempts(job.key) == [attempt]
    do(driver.store, job, attempt, tmp_path / "node")
    driver.close()
    assert (driver._book.state(job).state, driver._book.state(job).starts) == ("planned", 0)
    again = stored()
    assert again.begin(job) is None and again._book.state(job).state == "done"
    assert (tmp_path / "out" / "runs" / "job" / "run").exists()


def test_a_damaged_result_is_a_failure_that_says_which_file(
    tmp_path: Path, make_job: MakeJob, stored: Callable[..., StoredJobs]
) -> None:
    job, driver = make_job("job"), stored()
    attempt = driver.begin(job)
    assert attempt is not None
    do(driver.store, job, attempt, tmp_path / "node")
    contents(driver.store, f"jobs/{job.key}/attempts/{attempt}/made/runs/job/run", b"x")
    assert driver.collect(job.key)
    assert "/made/runs/job/run: is damaged: it has 1 bytes" in str(driver._book.state(job).reason)
    assert not (tmp_path / "out" / "runs").exists() or not list((tmp_path / "out" / "runs").iterdir())
    driver._book.forget(job.key)
    assert driver.begin(job) not in (None, attempt)  # What is damaged isn't taken, and is removed.


def test_one_process_at_a_time_gives_out_jobs_with_a_store(
    stored: Callable[..., StoredJobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = r"store: another process gives out jobs with it \(.*, process \d+\)"
    with stored().held(), pytest.raises(SlmbenchError, match=said):
        stored("other").held().__enter__()
    with stored("other").held():
        pass
    # Of a process of this machine that is gone.
    store = stored().store
    with stored().held():
        kept = store.read("driver.json")
    assert kept is not None and store.read("driver.json") is None
    store.write("driver.json", json.dumps({**json.loads(kept), "pid": 2**22 + 1}).encode())
    with stored().held():
        pass
    # Of another machine, whose clock may be anything: what counts is whether a sign comes.
    monkeypatch.setattr(_stored, "LOST_S", 0.4)
    far = {**json.loads(kept), "host": "far-away", "at": 5.0}
    store.write("driver.json", json.dumps(far).encode())
    second = threading.Timer(0.15, store.write, ["driver.json", json.dumps({**far, "at": 6.0}).encode()])
    second.start()
    with pytest.raises(SlmbenchError, match=r"another process gives out jobs with it \(far-away, process"):
        stored("other").held().__enter__()
    second.join()
    with stored("other").held():
        pass
