"""Runs every benchmark that can run here and writes RESULTS.md from what they print.

python benchmarks/all.py [SCRIPT...]        # these alone, an argument each, as "training_speed.py --only own"; the
                                            # others' blocks stay as they are
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from slmbench.machine import hardware, packages

HERE = Path(__file__).parent
REAL = "SLMBENCH_SMOLLM2"
SCRIPTS = {
    "quickstart.py": (),
    "list_tasks.py": (),
    "startup.py": (),
    "reading_runs.py": (),
    "code_size.py": (),
    "against.py": ("SLMBENCH_DATA", "SLMBENCH_BEFORE"),
    "nano_gains.py": (),
    "standard_equality.py": ("SLMBENCH_DATA", "SLMBENCH_STORIES260K"),
    "metrics.py": ("SLMBENCH_DATA",),
    "math_equal.py": (),
    "intervals.py": (),
    "decisions.py": (),
    "ranks.py": (),
    "planning.py": (),
    "matrix_throughput.py": (),
    "matrix_throughput.py --only jobs --ray": (),
    "matrix_scale.py": (),
    "matrix_simulated.py": (),
    "leaderboard_scale.py": (),
    "page_scale.py": (),
    "merge_adapters.py": (),
    "merge_driver.py": (),
    "sandbox.py": ("SLMBENCH_DATA",),
    "check_all.py": (),
    "merge_equality.py": (),
    "merge_methods.py": (),
    "token_economy.py": (),
    "token_layouts.py": ("SLMBENCH_DATA", "SLMBENCH_TOKENIZERS"),
    "contamination.py": (),
    "engine_speed.py": ("SLMBENCH_DATA",),
    "engine_equality.py": ("SLMBENCH_DATA", "SLMBENCH_STORIES260K"),
    "training_speed.py": ("SLMBENCH_DATA",),
    "training_overhead.py": ("SLMBENCH_DATA",),
    "memory_forecast.py": (),
    "smollm2_gsm8k.py": ("SLMBENCH_DATA", REAL),
    "smollm2_merge.py": ("SLMBENCH_DATA", REAL),
    "as_built.py": (),
    "smollm2_tour.py": ("SLMBENCH_DATA", REAL),
    "decided_early.py": ("SLMBENCH_DATA", REAL),
    "decided_early.py --task arc_easy": ("SLMBENCH_DATA", REAL),
    "gguf_export.py": ("SLMBENCH_LLAMA_CPP", REAL),
    "adapter_swap.py": ("SLMBENCH_DATA", REAL),
    "routing.py": ("SLMBENCH_DATA", REAL),
    # The same comparisons on a real model's own weights; the scripts by themselves are run without them.
    "engine_speed.py --only own-": ("SLMBENCH_DATA", REAL),
    "engine_equality.py --only real --limit 20": ("SLMBENCH_DATA", "SLMBENCH_STORIES260K", REAL),
    "training_speed.py --only own": ("SLMBENCH_DATA", REAL),
}


def main() -> None:
    machine = hardware()
    chosen = sys.argv[1:] or list(SCRIPTS)
    if unknown := sorted(set(chosen) - set(SCRIPTS)):
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    kept = _blocks()
    parts = [
        "# Results\n",
        "Written by `python benchmarks/all.py`; each block is what one script printed, in one run.\n",
    ]
    where = (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['ram_bytes'] / 2**30:.0f} GiB, GPU: {machine['gpu'] or 'none'}, Python {machine['python']}; "
        + ", ".join(f"{name} {version}" for name, version in packages().items())
        + "."
    )
    failed = []
    for script, needs in SCRIPTS.items():
        missing = [name for name in needs if not os.environ.get(name)]
        if script not in chosen:
            parts += [kept[script]] if script in kept else []
            continue
        parts.append(f"## {script}\n")
        if missing:
            parts.append(f"Not run: {', '.join(missing)} not set.\n")
            continue
        parts.append(f"{where}\n")
        print(f"{script} ...", file=sys.stderr, flush=True)
        environment = {name: value for name, value in os.environ.items() if name != REAL or REAL in needs}
        command = [sys.executable, *script.split()]
        done = subprocess.run(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True)
        parts.append(f"```text\n{done.stdout.strip()}\n```\n")
        if done.returncode:
            failed.append(script)
            parts.append(f"It ended with exit code {done.returncode}.\n")
    (HERE / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def _blocks() -> dict[str, str]:
    """Script -> its block in RESULTS.md as it is."""
    path = HERE / "RESULTS.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = (block.partition("\n") for block in text.split("\n## ")[1:])
    return {name.strip(): f"## {name.strip()}\n{body.rstrip()}\n" for name, _, body in found}


if __name__ == "__main__":
    main()
