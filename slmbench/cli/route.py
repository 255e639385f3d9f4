"""`slmbench route`: routers between adapters: fit, try, ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import show_leaderboard
from slmbench.cli._options import data_option, gathered, names_of
from slmbench.cli.eval import BATCH
from slmbench.console import say, show, show_json
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import DEFAULT_OUT

if TYPE_CHECKING:
    from slmbench.leaderboard import Routing
    from slmbench.routing import Router
    from slmbench.values import Estimate, JsonObject
    from slmbench.workflow.route import RouterPlan, RouterTrial


@click.group("route", help="The right adapter for each request, chosen by the request's own text.")
def command() -> None: ...


@command.command("fit", help="Fit a router between adapters of MODEL on texts of the tasks that they are for.")
@click.argument("model")
@click.option(
    "--adapter", "adapters", multiple=True, required=True, type=click.Path(file_okay=False), help="Repeat it for each."
)
@click.option(
    "--tasks",
    callback=names_of,
    help="Only these of the adapters' training.json; ADAPTER=TASK for an adapter that has none. [default: all]",
)
@click.option(
    "--head",
    default="auto",
    show_default=True,
    metavar="auto|tfidf|centroid|logistic|arrow|length",
    help="auto: by validation rows, TF-IDF where nothing is surely better. arrow needs no rows.",
)
@click.option("--rows", type=click.IntRange(4), default=300, show_default=True, help="Of each task, to fit on.")
@click.option(
    "--validation-rows", type=click.IntRange(1), default=100, show_default=True, help="Of each task, to choose by."
)
@click.option(
    "--unknown", callback=names_of, help="Tasks whose texts are to go to the base. [default: everyday requests]"
)
@click.option(
    "--score-rows",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Rows of each task that base and adapters answer, for a threshold by score.",
)
@click.option("--force-base", is_flag=True, help="Take adapters whatever they were trained on.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@data_option
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    default=os.path.join(DEFAULT_OUT, "router"),
    show_default=True,
    help="The router's folder.",
)
@gathered(plan="slmbench.workflow.route:RouterPlan")
def fit(plan: RouterPlan, out: str) -> None:
    from slmbench.workflow.route import fit as fit_plan
    from slmbench.workflow.route import save

    quiet_libraries()
    router = fit_plan(plan, default_catalog())
    folder = save(router, out)
    _show_router(router)
    show(folder)


@command.command("show", help="What the router of a folder ROUTER is, and where it sends TEXT.")
@click.argument("router", type=click.Path(file_okay=False))
@click.argument("text", required=False)
@click.option("--model", help="Its base. [default: as it was fitted]")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def show_command(router: str, text: str | None, model: str | None, as_json: bool) -> None:
    from slmbench.routing import read_router
    from slmbench.workflow.route import opened

    quiet_libraries()
    if text is None:
        found = read_router(router)
        if as_json:
            show_json(_router_json(found))
        else:
            _show_router(found)
        return
    asked = opened(router, model, default_catalog())
    asked.check_adapters()
    route = asked.route(text)
    if as_json:
        show_json({"adapter": route.adapter, "task": route.task, "scores": dict(route.scores)})
        return
    show(f"{route.adapter or 'the base'}" + (f" (task {route.task})" if route.task else ""))
    for name, score in sorted(route.scores.items(), key=lambda pair: -pair[1]):
        show(f"  {name} {score:.3f}")
    show(f"  threshold {asked.threshold:.3f}")


@command.command("eval", help="Hold a ROUTER against the base, chance and the adapter made for each task.")
@click.argument("router", type=click.Path(file_okay=False))
@click.option("--model", help="Its base. [default: as it was fitted]")
@click.option("--unknown", callback=names_of, help="Tasks that have no adapter: their items should go to the base.")
@click.option("--merged", multiple=True, type=click.Path(file_okay=False), help="A merged model or adapter, as a row.")
@click.option("--beside", multiple=True, type=click.Path(file_okay=False), help="A multi-task adapter, as a row.")
@click.option("--alone", is_flag=True, help="Each adapter's own row on all tasks, too.")
@click.option("--format", help="plain, chat or toon. [default: the adapters', else plain]")
@click.option("--metrics", callback=names_of, help="Only these of the tasks' metrics, separated by commas.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens to generate, even if a task declares more.")
@click.option(
    "--limit", type=click.IntRange(1), help="Only the first N items. Such rows are badged, and ranked among themselves."
)
@click.option("--batch", default="auto", show_default=True, type=BATCH, help="Rows to compute at once, or auto.")
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@data_option
@click.option(
    "--out", type=click.Path(file_okay=False), default=DEFAULT_OUT, show_default=True, help="Where runs and page go."
)
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="What was measured of the router as JSON on stdout.")
@gathered(
    settings="slmbench.task:Settings",
    options="slmbench.evaluation:EvaluationOptions",
    trial="slmbench.workflow.route:RouterTrial",
)
def eval_command(trial: RouterTrial, as_json: bool) -> None:
    from slmbench.workflow.route import try_router

    quiet_libraries()
    found = try_router(trial, default_catalog())
    if as_json:
        show_json(found.routing.as_json())
        if found.faulty is not None:
            raise found.faulty
        return
    _show_routing(found.routing)
    show_leaderboard(found.board, found.page, found.faulty, as_json=False)


_LOST = "; how much more an item would score on average with its task's own adapter"


def _router_json(router: Router) -> JsonObject:
    adapters = {one.name: {"folder": one.folder, "tasks": list(one.tasks)} for one in router.adapters}
    return {
        "head": router.head.name,
        "base": router.base.name,
        "adapters": adapters,
        "threshold": router.threshold,
        "facts": router.facts,
    }


def _show_router(router: Router) -> None:
    from slmbench.console.columns import Cell, print_lines, table_lines

    show(f"router of {router.base.name}: head {router.head.name}, {router.head.summary}")
    show(f"  {router.facts.get('why', '')}")
    for one in router.adapters:
        show(f"  adapter {one.name}: " + (", ".join(one.tasks) or "no task known"))
    heads = router.facts.get("heads", {})
    rows = [
        [
            Cell(name),
            Cell(f"{it['accuracy']:.1%}"),
            Cell(f"{it['ci_low']:.1%} to {it['ci_high']:.1%}"),
            Cell(str(it["n"])),
            Cell(f"{it['false_routes']:.1%}"),
            Cell(f"{it['to_base']:.1%}"),
        ]
        for name, it in heads.items()
    ]
    header = ("head", "accuracy", "95% interval", "rows", "unknown to an adapter", "known to the base")
    if rows:
        print_lines([f"  {line}" for line in table_lines(header, rows)])
    by = router.facts.get("threshold")
    if by:
        show(
            f"  threshold {router.threshold:.3f} by {by['by']}: {by['to_base']:.1%} of known texts go to the base, "
            f"{by['false_routes']:.1%} of unknown ones to an adapter"
        )


def _show_routing(routing: Routing) -> None:
    from slmbench.console.columns import Cell, print_lines, table_lines

    header = ["task", *routing.columns, "regret"]
    rows = []
    for task in routing.tasks:
        counts = [f"{task.counts[name]}{' *' if name == task.own else ''}" for name in routing.columns]
        rows.append([Cell(task.task), *map(Cell, counts), Cell(_told(task.regret, "{:+.4f}"))])
    print_lines(table_lines(header, rows, right=header[1:]))
    show("* the task's own")
    for name, value, form in (
        ("accuracy", routing.accuracy, "{:.1%}"),
        ("false routes of unknown tasks", routing.false_routes, "{:.1%}"),
        ("regret", routing.regret, "{:+.4f}"),
    ):
        if value is not None:
            show(f"{name}: {_told(value, form)} on {value.n} items" + (_LOST if name == "regret" else ""))
    if routing.ms is not None:
        show(f"cost: {routing.ms:.2f} ms a request")
    if routing.remark:
        say(routing.remark)


def _told(value: Estimate | None, form: str) -> str:
    if value is None:
        return "-"
    interval = "" if value.method == "none" else f" [{form.format(value.ci_low)}, {form.format(value.ci_high)}]"
    return form.format(value.value) + interval
