"""How soon a command shows a sign of life, and how soon it is done, beside lm-eval's own command line.

python benchmarks/startup.py [MODEL_FOLDER]     # the embedded model's folder unless told

Each command is run in a process of its own, its output into a pipe, as in a log: first sign is its first byte.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slmbench.paths import package_dir

SIGN_S = 2.0
WHOLE_S = 20.0
ITEMS = 8
TASK = """task: startup_peer
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Number {{{{n}}}} is"
doc_to_choice: ["even", "odd"]
doc_to_target: "{{{{n % 2}}}}"
"""


def timed(command: list[str]) -> tuple[float, float]:
    """(seconds to the first byte of output, seconds in all). Ends the program where the command fails."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    said = child.stdout.read(1)
    first = time.perf_counter() - began
    said += child.stdout.read()
    if child.wait():
        sys.exit(f"{' '.join(command)}: exit code {child.returncode}\n{said.decode(errors='replace')[-2000:]}")
    return first, time.perf_counter() - began


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else os.path.join(package_dir(), "nano", "model")
    ours = [sys.executable, "-m", "slmbench"]
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.jsonl")
        rows.write_text("".join(f'{{"n": {n}}}\n' for n in range(ITEMS)), encoding="utf-8")
        Path(folder, "peer.yaml").write_text(TASK.format(rows=rows), encoding="utf-8")
        few = ["--limit", str(ITEMS)]
        adapters = [word for name in ("note", "choice", "multi") for word in ("--adapter", name)]
        commands = {
            "eval": [*ours, "eval", model, "--tasks", "nano_choice", *few, "--out", os.path.join(folder, "out")],
            "lm_eval": [
                *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}"),
                *("--tasks", "startup_peer", "--include_path", folder, *few),
            ],
            "train --dry-run": [*ours, "train", "nano-quickstart", "--dry-run", *adapters, "--set", "rows=200"],
        }
        for command in commands.values():  # Into the disk's cache.
            timed(command)
        found = {name: timed(command) for name, command in commands.items()}
    (sign, whole), (their_sign, their_whole), (dry_sign, dry) = (found[name] for name in commands)
    print(f"eval of {ITEMS} items on {os.path.basename(model)}: first sign {sign:.2f} s ({SIGN_S:g} s allowed)")
    print(f"  lm_eval's own command line, the same model and as many items: {their_sign:.2f} s")
    print(
        f"  first sign, ours over theirs: {sign / their_sign:.2f}; the whole: {whole:.1f} s, {whole / their_whole:.2f}"
    )
    print(f"train --dry-run of three adapters on 600 rows: first sign {dry_sign:.2f} s ({SIGN_S:g} s allowed)")
    print(f"  the whole: {dry:.1f} s, {dry / WHOLE_S:.2f} of the {WHOLE_S:g} s allowed")
    sys.exit(max(sign, dry_sign) > SIGN_S or dry > WHOLE_S)


if __name__ == "__main__":
    main()
