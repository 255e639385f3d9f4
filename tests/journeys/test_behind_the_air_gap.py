"""From the hub's cache into a mirror; then a matrix from the mirror alone, in a namespace where no interface is up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slmbench.paths import bundled_root, package_dir
from tests.journeys.steps import APART, board_of, namespaces

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GRID = "summary: A model of the mirror.\nmodels: [someone/tiny]\ntasks: [boolq, nano_note]\nshots: 1\nlimit: 2\n"
# All in one process: what is asked is what commands do there, and each would import torch for itself.
INSIDE = """
import array, contextlib, fcntl, io, json, socket, struct, sys
from slmbench.cli import main

def interfaces():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        flags = {}
        for _, name in socket.if_nameindex():
            told = fcntl.ioctl(asked, 0x8913, struct.pack("16sh14x", name.encode(), 0))  # SIOCGIFFLAGS
            flags[name] = struct.unpack("16xh14x", told)[0]
    counted = [line.split() for line in open("/proc/net/dev").readlines()[2:]]
    return {"up": [name for name, said in flags.items() if said & 1], "there": sorted(flags),
            "bytes": sum(int(line[1]) + int(line[9]) for line in counted)}

told = {"before": interfaces()}
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(words)
    told[" ".join(words[:2])] = [code, said.getvalue()]
told["after"] = interfaces()
print(json.dumps(told))
"""


def cache_of_hub(home: Path) -> None:
    """What the hub's client leaves of a model and of a data set that were loaded once."""
    model = home / "hub" / "models--someone--tiny"
    shutil.copytree(Path(package_dir(), "nano", "model"), model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    import datasets

    golden = Path(bundled_root(), "tasks", "boolq", "samples.jsonl").read_text(encoding="utf-8").splitlines()
    made = datasets.Dataset.from_list([json.loads(line) for line in golden])
    place = home / "datasets" / "google___boolq" / "default" / "0.0.0" / COMMIT
    place.mkdir(parents=True)
    for split in ("train", "validation"):
        path = str(place / f"boolq-{split}.arrow")
        with datasets.arrow_writer.ArrowWriter(features=made.features, path=path) as to:
            for row in made:
                to.write(row)
            to.finalize()
    sizes = {"num_bytes": 1, "num_examples": len(made), "dataset_name": "boolq"}
    info = {
        "builder_name": "parquet",
        "dataset_name": "boolq",
        "config_name": "default",
        "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
        "features": made.features.to_dict(),
        "splits": {split: {"name": split, **sizes} for split in ("train", "validation")},
    }
    (place / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def python(*words: str, before: list[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*(before or []), sys.executable, *words],
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_matrix_is_done_from_a_mirror_where_no_interface_is_up(tmp_path: Path) -> None:
    if not namespaces():
        pytest.skip("no namespace without a network can be made here: `unshare --user --map-root-user --net` fails")
    mirror, out = str(tmp_path / "mirror"), str(tmp_path / "out")
    cache_of_hub(tmp_path / "hf")
    pull = ["-m", "slmbench", "data", "pull", "boolq", "--model", "someone/tiny", "--to", mirror]
    python(*pull, HF_HOME=str(tmp_path / "hf"), SLMBENCH_DATA="")
    shutil.rmtree(tmp_path / "hf")

    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    commands = [
        ["data", "verify", mirror, "boolq", "--model", "someone/tiny"],
        ["doctor", "--json"],
        ["matrix", str(tmp_path / "grid.yaml"), "--out", out, "--workers", "1", "--json"],
    ]
    empty = str(tmp_path / "nothing")
    done = python("-c", INSIDE, json.dumps(commands), before=APART, SLMBENCH_DATA=mirror, HF_HOME=empty)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for when in ("before", "after"):
        assert told[when] == {"up": [], "there": ["lo"], "bytes": 0}
    assert told["data verify"][0] == 0
    findings = {one["name"]: one for one in json.loads(told["doctor --json"][1])["findings"]}
    assert findings["mirror"]["said"].startswith("1 data sets and 1 models in "), findings["mirror"]
    code, said = told[f"matrix {tmp_path / 'grid.yaml'}"]
    assert (code, json.loads(said)["counts"]["done"]) == (0, 1)

    records = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "out").glob("runs/*/run.json")]
    assert {one["dataset"]["source"] for one in records} == {"mirror", "generated"}
    assert {one["model"]["id"] for one in records} == {"someone/tiny"}
    board = board_of(tmp_path / "out" / "leaderboard")
    assert list(board) == ["tiny"]
    assert {key.partition("/")[0] for key in board["tiny"]["scores"]} == {"boolq", "nano_note"}
