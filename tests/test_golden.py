"""What a person and a record see, pinned: digests, prompts, run ids, records, JSON outputs, tables, words of refusals.

`python tests/test_golden.py` writes `tests/golden/` anew. A change there is a change that people will notice, or a run
that will not be found again: it belongs into the commit that says why.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from slmbench.paths import bundled_root

TOP = Path(__file__).resolve().parent.parent
GOLDEN = TOP / "tests" / "golden"
FORMATS = ("plain", "chat", "toon")
ENGINE = f"lm-eval-{version('lm_eval')}/transformers-{version('transformers')}/torch-{version('torch')}"
# Of the machine, the moment or the commit; that they are there is pinned, and what they say is not.
VOLATILE = {
    *("created", "ended", "hardware", "packages", "code", "seconds", "tokens_per_s", "latency_ms", "compute_ms"),
    *(
        "ram_peak_B",
        "vram_peak_B",
        "samples_sha256",
        "item_scores_sha256",
        "record_sha256",
        "batch_rows",
        "loglikelihoods",
        "train_s",
    ),
    *("latency_p50_ms", "latency_p90_ms", "folder"),
}
# One command a line; `$OUT` is a folder of its own.
REFUSED = """
eval nano --tasks nosuchtask
eval nono --tasks boolq
eval nano --suite nosuchsuite
eval nano
eval nano --tasks boolq --suite nano
eval nano --tasks boolq,boolq --data samples
eval nano --tasks boolq --data samples --format chatty
eval nano --tasks boolq --data samples --batch 0
eval nano --tasks boolq --data samples --engine nosuchengine
eval nano --tasks boolq --data samples --engine vllm
eval nano --tasks boolq --data samples --engine server
eval nano --tasks boolq --data samples --engine server --url http://93.184.216.34:8000
eval nano --tasks boolq --data samples --metrics rouge
eval nano --tasks gsm8k
eval nano --tasks human_eval --data samples
eval nano --tasks boolq --data samples --adapter nosuchfolder
train nosuchrecipe
train smollm2-gsm8k --set optim.lr=fast
train smollm2-gsm8k --set nosuch.key=1
train smollm2-gsm8k --variant nosuch
sweep smollm2-gsm8k --over lora.rank=8,x --dry-run
sweep smollm2-gsm8k --over nosuch=1 --dry-run
sweep smollm2-gsm8k --seeds none --dry-run
run nosuchrecipe
export nosuchfolder
leaderboard nosuchfolder
leaderboard .
show task nosuch
show nosuch gsm8k
show model nono
show recipe smollm2 --set x=1
list nosuch
check nosuchtask
schema nosuch
data pull nosuch --to $OUT/mirror
data verify nosuchfolder
data export gsm8k --split nosuch --data samples
new task Bad/Name
nosuch
"""


def run(command: str | list[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, in this process."""
    from slmbench.cli import main

    argv = command.split() if isinstance(command, str) else command
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    return code, out.getvalue(), err.getvalue()


def said(command: list[str], folder: str) -> dict[str, Any]:
    """What a command said, but for folders of this machine and lines of progress."""
    code, out, err = run(command)
    progress = re.compile(r"^\S.* \d+ s$")
    lines = [line for line in err.splitlines() if not progress.match(line)]
    return {"rc": code, "stdout": _here(out, folder), "stderr": [_here(line, folder) for line in lines]}


def _here(text: str, folder: str) -> str:
    # The declarations lie in the checkout, or in the installed package.
    tops = ((bundled_root(), "$TOP"), (str(TOP), "$TOP"))
    for path, name in ((folder, "$OUT"), (os.path.realpath(folder), "$OUT"), *tops):
        text = text.replace(path, name)
    return text


def steady(value: Any) -> Any:
    """A record without what differs from moment to moment."""
    if isinstance(value, dict):
        return {key: "..." if key in VOLATILE and inner is not None else steady(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [steady(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


def see_declarations(folder: str) -> Any:
    found: dict[str, Any] = {}
    for kind in ("tasks", "models", "datasets", "recipes", "suites", "metrics", "formats"):
        code, out, _ = run(["list", kind, "--json"])
        assert code == 0
        listed = json.loads(out)
        found[kind] = {one["name"]: _here(json.dumps(one, sort_keys=True), folder) for one in listed}
    for kind in ("task", "model", "dataset", "recipe", "suite"):
        _, out, _ = run(["schema", kind])
        found[f"schema {kind}"] = hashlib.sha256(out.encode()).hexdigest()
    return found


def see_prompts(folder: str) -> Any:
    """Of every task in every format: its digest and, as a hash, what the model is shown of its golden rows."""
    found: dict[str, Any] = {}
    from slmbench.catalog import default_catalog
    from slmbench.formats import load_format
    from slmbench.task import load_task

    for task in default_catalog().files("tasks"):
        for style in FORMATS:
            command = ["show", "task", task, "--data", "samples", "--format", style, "--n", "2", "--json"]
            code, out, err = run(command)
            made = json.loads(out) if code == 0 else {"error": _here(err, folder)}
            digest = load_task(task, data="samples").digest(load_format(style))
            whole = hashlib.sha256(_here(json.dumps(made, sort_keys=True), folder).encode()).hexdigest()
            found[f"{task} {style}"] = {"rc": code, "digest": digest, "shown": whole}
    return found


def see_runs(folder: str) -> Any:
    """Two items of several tasks on the embedded model: ids, keys, records and samples, and the table of them."""
    kinds = "boolq,hellaswag,squad,gsm8k,nano_note"
    found: dict[str, Any] = {}
    for style in FORMATS:
        out = os.path.join(folder, style)
        command = ["eval", "nano", "--tasks", kinds, "--data", "samples", "--limit", "2", "--max-tokens", "16"]
        code, stdout, _ = run([*command, "--shots", "1", "--format", style, "--json", "--out", out])
        assert code == 0
        found[f"printed {style}"] = steady(json.loads(_here(stdout, folder)))
        for name in sorted(os.listdir(os.path.join(out, "runs"))):
            place = Path(out, "runs", name)
            record = json.loads((place / "run.json").read_text(encoding="utf-8"))
            # The order of keys is what a diff of two records shows.
            found[name] = {"keys": list(record), "record": steady(record), "files": sorted(os.listdir(place))}
            lines = (place / "samples.jsonl").read_text(encoding="utf-8").splitlines()
            found[name]["samples"] = [steady(json.loads(line)) for line in lines]
        board = os.path.join(folder, f"{style}-board")
        code, _, err = run(["leaderboard", out, "--out", board])
        assert code == 0, err
        found[f"board {style}"] = {
            "files": sorted(os.listdir(board)),
            "json": steady(json.loads(Path(board, "leaderboard.json").read_text(encoding="utf-8"))),
        }
    return found


def see_training(folder: str) -> Any:
    """A recipe's twin from training to table: which files there are, and which keys with values of which type."""

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "..." if key in VOLATILE else shape(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [shape(value[0])] if value else []
        return type(value).__name__

    out = os.path.join(folder, "twin")
    code, _, err = run(["run", "smollm2-gsm8k", "--twin", "--set", "rows=8", "--out", out])
    assert code == 0, err
    files = sorted(path.relative_to(out).as_posix() for path in Path(out).rglob("*") if path.is_file())
    training = next(Path(out, "adapters").glob("*/training.json"))
    return {
        "files": [re.sub(r"[0-9a-f]{10,}", "ID", name) for name in files],
        "training.json": shape(json.loads(training.read_text(encoding="utf-8"))),
    }


def see_sweep(folder: str) -> Any:
    _, points, _ = run(["sweep", "smollm2-gsm8k", "--over", "lora.rank=4,8", "--seeds", "2", "--dry-run", "--json"])
    return json.loads(points)


def see_check(folder: str) -> Any:
    code, out, err = run(["check", "boolq", "gsm8k", "nano_code", "nano_note", "squad", "--json"])
    assert out, f"check ended with {code} and said: {err}"
    return {"rc": code, "json": json.loads(_here(out, folder))}


def see_refusals(folder: str) -> Any:
    here = os.getcwd()
    empty = os.path.join(folder, "empty")
    os.makedirs(empty)
    os.chdir(empty)
    try:
        commands = REFUSED.strip().splitlines()
        return {line: said(line.replace("$OUT", folder).split(), folder) for line in commands}
    finally:
        os.chdir(here)


# A number by itself, not digits of a name or a digest.
_NUMBER = re.compile(r"(?<=[ \[])-?\d+\.\d+(?:e[-+]?\d+)?(?=,?$)")

SEEN: dict[str, Callable[[str], Any]] = {
    "declarations": see_declarations,
    "prompts": see_prompts,
    "runs": see_runs,
    "training": see_training,
    "sweep": see_sweep,
    "check": see_check,
    "refusals": see_refusals,
}


def written(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _but_for_rounding(expected: list[str], found: list[str]) -> list[str]:
    """What was found, with the numbers that were expected instead of those next to them.

    A sum of float32 differs in its seventh digit between processors.
    """
    if len(expected) != len(found):
        return found
    return [old if _is_near(old, new) else new for old, new in zip(expected, found, strict=True)]


def _is_near(old: str, new: str) -> bool:
    olds, news = _NUMBER.findall(old), _NUMBER.findall(new)
    near = len(olds) == len(news) and all(
        math.isclose(float(a), float(b), rel_tol=2e-6, abs_tol=2e-6) for a, b in zip(olds, news, strict=True)
    )
    return near and _NUMBER.sub("#", old) == _NUMBER.sub("#", new)


def test_numbers_are_equal_within_rounding_and_nothing_else_is() -> None:
    assert _is_near('"value": 13.462448,', '"value": 13.462449,') and _is_near('"ci_lo": -0.5', '"ci_lo": -0.500001')
    assert not _is_near('"value": 13.462448,', '"value": 13.4625,') and not _is_near('"n": 2', '"n": 3')
    assert not _is_near('"value": 1.5', '"stderr": 1.5') and not _is_near('"id": "ab12.5"', '"id": "ab12.500001"')


@pytest.mark.parametrize("name", SEEN)
def test_what_people_and_records_see_is_as_it_was(name: str, tmp_path: Path) -> None:
    if name == "runs" and ENGINE not in (GOLDEN / "runs.json").read_text(encoding="utf-8"):
        pytest.skip(f"run ids are of the library versions in constraints.txt; here it is {ENGINE}")
    expected = (GOLDEN / f"{name}.json").read_text(encoding="utf-8").splitlines()
    found = written(SEEN[name](str(tmp_path))).splitlines()
    if name == "runs":  # The others have no number that a model computed.
        found = _but_for_rounding(expected, found)
    changed = list(difflib.unified_diff(expected, found, "before", "now", n=1, lineterm=""))
    assert changed == [], "\n".join(changed[:80])


def main(names: list[str]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    GOLDEN.mkdir(exist_ok=True)
    for name in names or SEEN:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.json").write_text(written(SEEN[name](folder)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
