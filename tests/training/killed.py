"""Runs trainings that kill themselves with SIGKILL, each in a process of its own, and then the same ones to the end.

    python tests/training/killed.py < cases.json > results.json

A case: {"name", "model", "adapter", "out", "overrides": [...], "kills": [step, ...], "at": "step" | "rename" |
"interrupt", "disk_kb": null}. It is trained once without a kill, and once more, elsewhere, killed at each of `kills` in
turn and then let go to its end. at: where in a step it is killed, after the optimiser's step, or between the writing
and the renaming of a checkpoint; interrupt: it is sent Ctrl-C's signal after the step. disk_kb: in place of kills, the
second training is on a disk of that size, which is then made larger; needs root, without which the result is null.
Everything heavy is imported once, before the forks, and the memory of a case's steps is forecast once; no tensor of
numbers is computed there.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

CLONE_NEWNS = 0x00020000
NO_RIGHTS = 77


def train(case: dict[str, Any], out: str, kill: int | None) -> None:
    """One training, in a forked process, which ends with it."""
    status = 1
    child = os.fork()
    if child == 0:
        try:
            run(case, out, kill)
            status = 0
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    expected = 0 if kill is None else 130 if case["at"] == "interrupt" else -signal.SIGKILL
    if os.waitstatus_to_exitcode(ended) != expected:
        raise SystemExit(f"{case['name']}: ended with {os.waitstatus_to_exitcode(ended)}, not with {expected}")


def run(case: dict[str, Any], out: str, kill: int | None) -> None:
    import torch

    from slmbench.catalog import default_catalog
    from slmbench.console import watching
    from slmbench.models import resolve_model
    from slmbench.recipe import load_recipe
    from slmbench.training import train_adapter

    torch.set_num_threads(1)
    made = 0

    def end(what: str, n: int) -> None:
        nonlocal made
        made += n
        if kill is not None and case["at"] == "step" and made >= kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if kill == made and case["at"] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    rename = os.replace

    def end_before_rename(old: str, new: str) -> None:
        if kill is not None and case["at"] == "rename" and made >= kill and "step-" in str(new):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(old, new)

    os.replace = end_before_rename
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (f"model={case['model']}", *case["overrides"]))
    with watching(end):
        train_adapter(recipe, case["adapter"], catalog, resolve_model(case["model"], catalog), out=out)


def forecast(case: dict[str, Any]) -> None:
    """Goes through a case's steps for their memory here, so that none of the processes that are forked has to."""
    from slmbench.catalog import default_catalog
    from slmbench.models import resolve_model
    from slmbench.recipe import load_recipe
    from slmbench.training._forecast import calibrate
    from slmbench.training._prepare import prepare_training
    from slmbench.training._team import Team

    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, (f"model={case['model']}", *case["overrides"]))
    source = resolve_model(case["model"], catalog)
    prepared = prepare_training(recipe, case["adapter"], catalog, source)
    calibrate(prepared.forecast, 0, prepared.largest_batch(0, Team()))


def train_on_full_disk(case: dict[str, Any], out: str) -> dict[str, Any] | None:
    """What a training said on a disk that was full at a checkpoint, what it left, and how it ended with more room."""
    os.makedirs(out)
    answer = Path(out + ".json")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _on_full_disk(case, out, answer)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(ended) == NO_RIGHTS:
        return None
    return dict(json.loads(answer.read_text()))


def _on_full_disk(case: dict[str, Any], out: str, answer: Path) -> int:
    from slmbench.errors import SlmbenchError

    def mount(*arguments: str) -> bool:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0

    # A mount that no other process sees, and that ends with this one.
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) or not mount("--make-rprivate", "/"):
        return NO_RIGHTS
    if not mount("-t", "tmpfs", "-o", f"size={case['disk_kb']}k", "tmpfs", out):
        return NO_RIGHTS
    said, exit_code = "", 0
    try:
        run(case, out, None)
    except SlmbenchError as error:
        said, exit_code = str(error), error.exit_code
    left = sorted(str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_dir())
    mount("-o", f"remount,size={20 * case['disk_kb']}k", out)
    run(case, out, None)
    answer.write_text(json.dumps({"said": said, "exit_code": exit_code, "folders": left, **result(out)}))
    return 0


def result(out: str) -> dict[str, Any]:
    (record,) = Path(out).glob("*/*/training.json")
    (weights,) = record.parent.glob("*model.safetensors")
    training = json.loads(record.read_text())
    return {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "curves": {
            kind: [{key: value for key, value in point.items() if key != "seconds"} for point in points]
            for kind, points in training["curves"].items()
        },
        "mixture": training["mixture"],
        "resumed_from": training["resumed_from"],
        "left": sorted(path.name for path in record.parent.parent.iterdir()),
    }


def main() -> None:
    gc.disable()
    import bitsandbytes  # noqa: F401
    import lm_eval.evaluator
    import lm_eval.models.huggingface  # noqa: F401
    import peft  # noqa: F401
    import sacrebleu  # noqa: F401
    import transformers
    import trl

    assert transformers.Seq2SeqTrainer and transformers.AutoModelForSeq2SeqLM and trl.SFTTrainer
    import slmbench.training  # noqa: F401

    transformers.logging.set_verbosity_error()
    gc.enable()
    gc.freeze()  # Else every child goes through all that was imported, again and again.
    results = {}
    wholes: dict[str, dict[str, Any]] = {}
    for case in json.load(sys.stdin):
        killed = os.path.join(case["out"], "killed")
        # Cases that differ in kills and checkpoints alone have one training without any kill.
        changes = [one for one in case["overrides"] if not one.startswith("checkpoint.")]
        key = json.dumps([case["model"], case["adapter"], changes])
        if key not in wholes:
            forecast(case)
            whole = os.path.join(case["out"], "whole")
            train(case, whole, None)
            wholes[key] = result(whole)
        if case["disk_kb"] is not None:
            results[case["name"]] = {"whole": wholes[key], "killed": train_on_full_disk(case, killed)}
            continue
        for kill in case["kills"]:
            train(case, killed, kill)
        train(case, killed, None)
        results[case["name"]] = {"whole": wholes[key], "killed": result(killed)}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
