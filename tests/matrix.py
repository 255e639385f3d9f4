"""Every task's contract and every recipe's twin on one family of models; then one table of all families.

`python tests/matrix.py llama --out DIR` writes DIR/llama.json and ends with 1 where something failed;
`python tests/matrix.py --report DIR` prints the table. `tox -m matrix` runs all of it. With SLMBENCH_REAL_WEIGHTS=1 the
family's real model is taken in place of its twin where the hub's cache has it, and with SLMBENCH_REAL_WEIGHTS=FOLDER
where FOLDER/<model name> is there; a family without either is skipped, and the table says so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.checks import check_task
from slmbench.cli import main
from slmbench.errors import DataError, SlmbenchError
from slmbench.formats import load_format
from slmbench.lengths import Ruler
from slmbench.merge_recipe import load_merge_recipe
from slmbench.models import LoadedModel, load_config, load_model, load_tokenizer, resolve_model
from slmbench.recipe import dump_spec, load_recipe
from slmbench.task import Task, load_task
from slmbench.training import check_parity
from slmbench.training._rows import as_dataset, take_rows
from slmbench.workflow.recipes import is_merge_recipe

MODELS = {
    "llama": "llama-3.2-1b-instruct",
    "qwen2": "qwen2.5-0.5b",
    "phi3": "phi-3.5-mini-instruct",
    "tinyllama": "tinyllama-1.1b-chat",
    "smollm2": "smollm2-135m-instruct",
    "t5": "flan-t5-small",
    "nano": "nano",
}
FORMATS = ("plain", "chat", "toon")
# What can't work on a family, and a word of the reason: (family, task or '*', format). Not refused for it, it fails.
_NO_EOS = "has no EOS"  # The base models' template closes a turn with a token that they don't stop at.
REFUSED_FORMATS: dict[tuple[str, str, str], str] = {
    ("qwen2", "*", "chat"): _NO_EOS,
    # Its answers are indented, and this tokenizer has the line break before them and the blanks as one token.
    ("smollm2", "nano_code", "plain"): "ends in white space",
}
REFUSED_RECIPES: dict[tuple[str, str], str] = {
    ("qwen2", "smollm2-deepthink"): _NO_EOS,
    ("qwen2", "phi35-multitask"): _NO_EOS,
    ("qwen2", "smollm2-gsm8k"): _NO_EOS,
    ("smollm2", "nano-code"): "ends in white space",
    ("t5", "tinyllama-discharge-toon"): "no line breaks",
}
MAX_ROW_TOKENS = 100_000

Cell = dict[str, Any]


def task_cell(name: str, loaded: LoadedModel, ruler: Ruler) -> Cell:
    """One task's contract: what `check` holds, then the ids of training against those of evaluation in all formats."""
    report = check_task(name, default_catalog(), data="samples", ruler=ruler)
    problems = [str(problem) for problem in report.problems]
    task = load_task(name, default_catalog(), data="samples")
    family = str(loaded.source.family)
    compared, refused = 0, {}
    for format_name in FORMATS:
        wanted = REFUSED_FORMATS.get((family, name, format_name)) or REFUSED_FORMATS.get((family, "*", format_name))
        if wanted is not None:  # Told by `check` too, where it is the model's matter and not the prompt's.
            problems = [problem for problem in problems if wanted not in problem]
        if task.spec.train_split is None:
            continue
        try:
            compared += _parity_rows(task, format_name, loaded)
            if wanted is not None:
                problems.append(f"{format_name}: was not refused")
        except SlmbenchError as error:
            if wanted is not None and wanted in str(error):
                refused[format_name] = str(error).splitlines()[0]
            else:
                problems.append(f"{format_name}: {error}")
    return {"ok": not problems, "problems": problems, "parity_rows": compared, "refused": refused}


def _parity_rows(task: Task, format_name: str, loaded: LoadedModel) -> int:
    style = load_format(format_name)
    options: dict[str, Any] = {"limit": None, "max_tokens": MAX_ROW_TOKENS, "architecture": loaded.architecture}
    try:
        rows = take_rows(task, style, loaded.tokenizer, **options).rows
    except DataError:  # All of the few golden rows are shots.
        task = task.with_shots(0)
        rows = take_rows(task, style, loaded.tokenizer, **options).rows
    return check_parity(loaded, task, style, rows, as_dataset(rows, [task.name], loaded.architecture))


def recipe_cell(name: str, family: str, real: str | None, out: Path) -> Cell:
    """One recipe on the family's twin, or on its real model with the twin's few rows and steps."""
    catalog = default_catalog()
    merges = load_merge_recipe(name, catalog) if is_merge_recipe(name, catalog) else None
    recipe = load_recipe(name, catalog) if merges is None else merges.train
    assert recipe is not None  # The bundled merges are all of adapters that a recipe trains.
    # A merge recipe's base is the model that its adapters are trained on.
    where = "" if merges is None else "train.set."
    overrides = [f"{where}model={real or MODELS[family]}"]
    if recipe.spec.model != MODELS[family] and recipe.spec.lora.targets is not None:
        overrides.append(f"{where}lora.targets=null")  # Modules have other names in other families.
    if real is None:
        arguments = ["run", name, "--twin"]
    else:
        short = out / f"{name}.yaml"
        short.write_text(dump_spec((merges or recipe).for_twin().spec), encoding="utf-8")
        arguments = ["run", str(short), "--data", "samples"]
        if merges is not None:
            cuts = out / f"{name}-train.yaml"
            cuts.write_text(dump_spec(merges.for_twin().train.spec), encoding="utf-8")  # type: ignore[union-attr]
            overrides.append(f"train.recipe={cuts.name}")
    for override in overrides:
        arguments += ["--set", override]
    started = time.monotonic()
    code, said = _called([*arguments, "--out", str(out / name), "--json"])
    cell: Cell = {"ok": code == 0, "exit_code": code, "seconds": round(time.monotonic() - started, 1)}
    wanted = REFUSED_RECIPES.get((family, name))
    if wanted is not None:
        cell["ok"] = code == 2 and wanted in said
    if wanted is not None and cell["ok"]:
        cell["refused"] = " ".join(line for line in said.splitlines() if line.startswith("error: "))
    elif not cell["ok"]:
        cell["problem"] = said[-4000:]
    return cell


def _called(arguments: list[str]) -> tuple[int, str]:
    """(exit code, stderr) of a command, in this process: importing torch anew takes longer than most of them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(arguments)
        except Exception:
            traceback.print_exc()
            code = 70
    return code, said.getvalue()


def real_model(name: str) -> str | None:
    """A folder or the hub cache's entry of a real model, '' where there is none; None where twins are asked for."""
    asked = os.environ.get("SLMBENCH_REAL_WEIGHTS", "")
    if asked in ("", "0") or name == "nano":
        return None
    folder = os.path.join(asked, name)
    if os.path.isfile(os.path.join(folder, "config.json")):
        return folder
    try:
        load_config(resolve_model(name, default_catalog()))
        load_tokenizer(resolve_model(name, default_catalog()))
    except SlmbenchError:
        return ""
    return name


def run_family(family: str, out: Path) -> bool:
    """Writes `<out>/<family>.json`; True where nothing failed."""
    # Both are read when the hub's client is imported.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    started = time.monotonic()
    name, catalog = MODELS[family], default_catalog()
    real = real_model(name)
    result: Cell = {"family": family, "model": name, "weights": "twin" if real is None else "real"}
    if real == "":
        result |= {"skipped": "no weights in the hub's cache nor below SLMBENCH_REAL_WEIGHTS"}
    else:
        source = resolve_model(real or name, catalog, twin=real is None)
        if real is not None:  # Of the twins' own vectors, a twin's run takes care itself.
            os.environ.setdefault("SLMBENCH_BERTSCORE", resolve_model("nano", catalog).location)
        # A folder's own source knows no family; what is refused depends on it.
        loaded = load_model(evolve(source, family=family))
        ruler = Ruler(source.name, loaded.tokenizer, source.context_tokens)
        result["tasks"] = {task: task_cell(task, loaded, ruler) for task in catalog.files("tasks")}
        del loaded
        with tempfile.TemporaryDirectory() as folder:
            recipes = catalog.files("recipes")
            result["recipes"] = {recipe: recipe_cell(recipe, family, real, Path(folder)) for recipe in recipes}
    result["seconds"] = round(time.monotonic() - started, 1)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{family}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    for line in told(result):
        print(line)
    return not failures(result)


def failures(result: Cell) -> list[str]:
    """What failed on a family, a line each."""
    tasks = [
        f"task {task}: {problem}" for task, cell in result.get("tasks", {}).items() for problem in cell["problems"]
    ]
    recipes = [
        f"recipe {recipe}: exit code {cell['exit_code']}\n{cell['problem']}"
        for recipe, cell in result.get("recipes", {}).items()
        if not cell["ok"]
    ]
    return tasks + recipes


def told(result: Cell) -> list[str]:
    """A family's cells, for the console."""
    if "skipped" in result:
        return [f"{result['family']}: skipped: {result['skipped']}"]
    lines = [f"{result['family']}: {result['model']} ({result['weights']}), {result['seconds']} s"]
    alike: dict[str, list[str]] = {}
    for task, cell in result["tasks"].items():
        for style, why in cell["refused"].items():
            alike.setdefault(f"{style}: {why}", []).append(task)
    for why, tasks in alike.items():
        who = ", ".join(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks"
        lines.append(f"  {who} refused in {why}")
    for recipe, cell in result["recipes"].items():
        if "refused" in cell:
            lines.append(f"  {recipe} refused: {cell['refused']}")
    return lines + [f"  FAILED {failure}" for failure in failures(result)]


def table(results: list[Cell]) -> list[str]:
    """All families in one table: tasks that hold, training rows held to parity, every recipe."""
    recipes = sorted({name for result in results for name in result.get("recipes", {})})
    header = ["family", "model", "weights", "tasks", "parity rows", *recipes, "seconds"]
    rows = [header]
    for result in results:
        begin = [result["family"], result["model"], result["weights"]]
        if "skipped" in result:
            rows.append([*begin, "skipped", *[""] * (len(recipes) + 2)])
            continue
        tasks = result["tasks"].values()
        cells = [result["recipes"].get(name, {}) for name in recipes]
        said = ["refused" if "refused" in cell else "ok" if cell.get("ok") else "FAILED" for cell in cells]
        held = f"{sum(cell['ok'] for cell in tasks)}/{len(tasks)}"
        rows.append([*begin, held, str(sum(cell["parity_rows"] for cell in tasks)), *said, str(result["seconds"])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def report(folder: Path) -> bool:
    """Prints the table of the families whose results lie in a folder; True where all are there and none failed."""
    results, missing = [], []
    for family in MODELS:
        path = folder / f"{family}.json"
        if path.is_file():
            results.append(json.loads(path.read_text(encoding="utf-8")))
        else:
            missing.append(family)
    for line in table(results):
        print(line)
    for result in results:
        for line in told(result)[1:] if "skipped" not in result else told(result):
            print(line)
    if missing:
        print(f"no result: {', '.join(missing)}; `tox -e models-{missing[0]}` makes one")
    return not missing and not any(failures(result) for result in results)


def share(env_dir: Path) -> None:
    """Lets the next of tox's environments have this one's folder: tox makes a folder anew that has another's name."""
    path = env_dir / ".tox-info.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts.pop("ToxEnv", None)
    path.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    name = {"type": lambda text: text.removeprefix("models-"), "choices": sorted(MODELS)}
    parser.add_argument("family", nargs="?", **name, help="also as tox names its environments, models-llama")
    parser.add_argument("--out", type=Path, default=Path("matrix"), help="where results are written")
    parser.add_argument("--report", type=Path, metavar="DIR", help="print the table of the results there")
    parser.add_argument("--share", type=Path, metavar="ENV_DIR", help="what tox.ini does when an environment has ended")
    options = parser.parse_args()
    if sum(asked is not None for asked in (options.family, options.report, options.share)) != 1:
        parser.error("name a family, or give --report DIR")
    if options.share is not None:
        share(options.share)
        sys.exit(0)
    sys.exit(0 if (run_family(options.family, options.out) if options.family else report(options.report)) else 1)
