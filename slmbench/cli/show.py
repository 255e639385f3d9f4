"""`slmbench show`: a declaration with its defaults written out; of a task, also real prompts as tokens see them.

Of a metric, format and the like: what its decorator says and what its function asks for, read without running it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import click

from slmbench.catalog import FILE_KINDS, Catalog, default_catalog
from slmbench.cli._options import data_option
from slmbench.console import paint, show, show_json
from slmbench.errors import UsageError, did_you_mean
from slmbench.headers import KINDS, Header, definition, own_headers
from slmbench.metrics import own_scorer
from slmbench.paths import shown
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from slmbench.leaderboard import BesideLine
    from slmbench.merge_recipe import MergeRecipe
    from slmbench.recipe import Recipe
    from slmbench.task import Task


@click.command("show", help="A declaration; of a task, also its first prompts, rendered and counted in tokens.")
@click.argument("kind", type=click.Choice(["task", *(kind[:-1] for kind in FILE_KINDS), *KINDS]))
@click.argument("name")
@click.option(
    "--model", default="nano", show_default=True, help="The model whose tokenizer and chat template are used."
)
@click.option("--format", "format_name", default="plain", show_default=True, help="How prompts are written down.")
@click.option("--n", default=2, show_default=True, type=click.IntRange(0), help="How many prompts.")
@click.option("--shots", type=click.IntRange(0, 100), help="Worked examples. [default: as declared]")
@click.option("--cot", type=click.Choice(["off", "zero", "few"]), help="Chain of thought. [default: as declared]")
@data_option
@click.option("--variant", metavar="NAME", help="Of a recipe: with this variant applied.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of a recipe: as `train` takes it.")
@click.option(
    "--runs",
    multiple=True,
    type=click.Path(exists=True),
    help="Of a recipe: what these runs measured, beside published numbers; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON on stdout, and nothing else.")
def command(
    kind: str,
    name: str,
    model: str,
    format_name: str,
    n: int,
    shots: int | None,
    cot: str | None,
    data: str,
    variant: str | None,
    overrides: tuple[str, ...],
    runs: tuple[str, ...],
    as_json: bool,
) -> None:
    catalog = default_catalog()
    if kind in KINDS and not (kind == "format" and name in catalog.files("formats")):
        _show_registered(kind, name, catalog, as_json)
        return
    from slmbench.recipe import Recipe, dump_spec
    from slmbench.schema import QuantizationSpec
    from slmbench.workflow.check_recipe import load_either

    if kind != "recipe" and (variant is not None or overrides or runs):
        raise UsageError(f"--variant, --set and --runs are for recipes; a {kind} is shown as it is declared")
    recipe = load_either(name, catalog, overrides, variant=variant) if kind == "recipe" else None
    if kind == "model" and name not in catalog.files("models") and (told := _of_file(name)) is not None:
        _show_file(name, told, as_json)
        return
    path = recipe.path if recipe is not None else catalog.find(f"{kind}s", name)
    shown_prompts: list[dict[str, Any]] = []
    if kind == "task":
        from slmbench.task import load_task

        task = load_task(name, catalog, data=data).with_cot(cot).with_shots(shots)
        spec: Any = task.spec
        shown_prompts = _prompts(task, model, format_name, n, catalog) if n else []
    elif recipe is not None:
        spec = recipe.spec
        if (
            isinstance(recipe, Recipe) and spec.method == "qlora" and spec.quantization is None
        ):  # Then its defaults hold.
            spec = spec.model_copy(update={"quantization": QuantizationSpec()})
    else:
        spec = _spec(kind, path)
    beside = _beside(recipe, runs, catalog) if recipe is not None else ()
    if as_json:
        value = {"kind": kind, "name": name, "path": path, "spec": spec.model_dump(mode="json")}
        value |= {"prompts": shown_prompts} if kind == "task" else {}
        value |= {"published": _beside_json(beside)} if recipe is not None else {}
        show_json(value)
        return
    show(paint(f"# {shown(path)}", "dim"), painted=True)
    show(dump_spec(spec, without=("published",) if beside else ()).removesuffix("\n"), keep="\n\t")
    if beside:
        _show_beside(beside)
    for one in shown_prompts:
        show()
        counted = f"# {one['id']}: {one['prompt_tokens']} tokens of prompt, {one['answer_tokens']} of answer"
        show(paint(counted, "dim"), painted=True)
        prompt = paint(one["prompt"], keep="\n\t")
        show(prompt + paint(one["delimiter"] + one["answer"], "green", keep="\n\t"), keep="\n\t", painted=True)


def _beside(recipe: Recipe | MergeRecipe, runs: tuple[str, ...], catalog: Catalog) -> tuple[BesideLine, ...]:
    from slmbench.workflow.published import published_beside

    if runs and not recipe.published:
        raise UsageError(f"--runs: recipe {recipe.name!r} declares no published numbers that they could stand beside")
    return published_beside(recipe.published, runs, catalog) if recipe.published else ()


def _beside_json(beside: tuple[BesideLine, ...]) -> list[JsonObject]:
    from slmbench.leaderboard import beside_content
    from slmbench.leaderboard.texts import json_ready

    made = json_ready([beside_content(line) for line in beside])
    assert isinstance(made, list)
    return made


def _show_beside(beside: tuple[BesideLine, ...]) -> None:
    from slmbench.leaderboard import beside_text

    def painted(text: str, color: str | None) -> str:
        return paint(text, color) if color and text else text

    width = shutil.get_terminal_size((100, 24)).columns
    for line in beside_text(beside, max(width, 24), painted, whole=True):
        show(line, painted=True)


def _show_registered(kind: str, name: str, catalog: Catalog, as_json: bool) -> None:
    there = [*own_headers(kind), *catalog.headers(kind)]
    # Of pass@k each k is a name of its own, and one stands for all.
    of_any = "pass@1" if kind == "metric" and own_scorer(name) is not None and name.startswith("pass@") else name
    found = [header for header in there if header.name == name] or [one for one in there if one.name == of_any]
    if not found:
        raise UsageError(f"unknown {kind} {name!r}{did_you_mean(name, [header.name for header in there])}")
    # Tasks may each bring one of the same name, for themselves.
    told = [_told(header, catalog) for header in found]
    if as_json:
        show_json(told[0] if len(told) == 1 else told)
        return
    for number, one in enumerate(told):
        show() if number else None
        show(paint(f"# {shown(one['path'])}:{one['line']}", "dim"), painted=True)
        for key in ("name", "summary", "version", "from", "for", "function"):
            show(f"{key}: {one[key]}")
        for key, value in one["facts"].items():
            show(f"{key}: {value}")
        if one["doc"]:
            show()
            show(one["doc"], keep="\n\t")


def _told(header: Header, catalog: Catalog) -> JsonObject:
    package = next((one for one in catalog.plugin_modules if one.path == header.path), None)
    folder = os.path.dirname(header.path)
    of_task = os.path.basename(header.path) == "plugin.py" and os.path.isfile(os.path.join(folder, "task.yaml"))
    whose = "slmbench" if header in own_headers(header.kind) else "a plugin"
    function, facts, doc = definition(header)
    return {
        **{key: getattr(header, key) for key in ("kind", "name", "summary", "version", "path", "line")},
        "from": f"package {package.package} {package.version}" if package is not None else whose,
        "for": f"task {os.path.basename(folder)}" if of_task else "all tasks",
        "function": function,
        "facts": facts,
        "doc": doc,
    }


def _of_file(name: str) -> JsonObject | None:
    """What a GGUF file says of itself; None for a name that is not such a file."""
    from slmbench.models import describe_gguf, is_gguf

    return describe_gguf(name) if is_gguf(name) else None


def _show_file(name: str, told: JsonObject, as_json: bool) -> None:
    if as_json:
        show_json({"kind": "model", "name": name, "path": name, "file": told})
        return
    show(paint(f"# {shown(name)}", "dim"), painted=True)
    for key, value in told.items():
        show(f"{key}: {value}")


def _spec(kind: str, path: str) -> object:
    from slmbench import schema
    from slmbench.yamlfile import read_yaml

    document = read_yaml(path)
    if kind == "model":
        return schema.parse(schema.ModelSpec, document)
    if kind == "format":
        return schema.parse(schema.BlocksSpec, document)
    return schema.parse(schema.DatasetSpec if kind == "dataset" else schema.SuiteSpec, document)


def _prompts(task: Task, model: str, format_name: str, n: int, catalog: Catalog) -> list[JsonObject]:
    from slmbench.formats import load_format, training_ids
    from slmbench.models import load_tokenizer, resolve_model
    from slmbench.task import formats_of
    from slmbench.workflow.quiet import quiet_libraries

    quiet_libraries()
    style = load_format(format_name, formats_of([task], catalog))
    tokenizer = load_tokenizer(resolve_model(model, catalog))
    found = []
    task = task.in_format(style)
    for example in task.examples(task.spec.split, n):
        rendered = style.render(task.prompt(example), tokenizer)
        prompt, answer = training_ids(style, tokenizer, rendered, style.write(task.target(example)))
        found.append(
            {
                "id": example.id,
                "prompt": rendered.text,
                "delimiter": rendered.delimiter,
                "answer": style.write(task.target(example)),
                "choices": list(example.choices),
                "prompt_tokens": len(prompt),
                "answer_tokens": len(answer),
                "prompt_ids": prompt,
                "tokens": tokenizer.convert_ids_to_tokens(prompt),
            }
        )
    return found
