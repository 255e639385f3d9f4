"""A recipe over several settings: a plan of points, each of them data that another process can work on."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import UsageError, did_you_mean
from slmbench.evaluation import refuse_unscorable
from slmbench.formats import load_format
from slmbench.recipe import Recipe
from slmbench.runs import Run
from slmbench.sweeps import Axis, Point, Sweep, axes_of, points_of, run_sweep, seeds_of, summarise
from slmbench.task import Task, formats_of
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import Loaded, bound_tasks, evaluation_tasks
from slmbench.workflow.run import RunPlan, evaluate_recipe
from slmbench.workflow.train import chosen_adapters, train_recipe


@frozen(kw_only=True)
class SweepPlan:
    """What is asked for. run: the recipe, where results go, and how it is scored. over, seeds: as on the command line.

    metrics: what the summary shows, each task's first unless told.
    """

    run: RunPlan
    over: tuple[str, ...] = ()
    seeds: str | None = None
    metrics: tuple[str, ...] = ()


@frozen(kw_only=True)
class ReadySweep:
    """A plan whose points are all sound."""

    plan: SweepPlan
    recipe: Recipe
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]


@frozen(kw_only=True)
class PointWork:
    """How a point is trained and scored: data alone, which a process of its own can be handed.

    seed: of the evaluations: of the recipe, not of the point, so that the base is scored once, and seeds differ in
    their training alone. loaded: tasks that are at hand; stays behind where the rest is sent.
    """

    plan: RunPlan
    seed: int
    catalog: Catalog
    loaded: Loaded = field(factory=dict, eq=False, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        return _point_work, (self.plan, self.seed, self.catalog)

    def train(self, point: Point, place: str) -> list[str]:
        """The folders of what was trained, below `place`."""
        options = self.plan.options
        return train_recipe(
            point.recipe,
            self.catalog,
            out=place,
            data=options.data_mode,
            only=self.plan.only,
            twin=options.twin,
            resume=options.resume,
            track=options.track,
        )

    def evaluate(self, point: Point, folders: Sequence[str]) -> list[Run]:
        """As many runs for the base as for each of the folders, the base's first."""
        tasks, _ = bound_tasks(point.recipe, self.catalog, self.plan.options, self.loaded)
        return evaluate_recipe(point.recipe, folders, tasks, self.catalog, self.plan, seed=self.seed)


def _point_work(plan: RunPlan, seed: int, catalog: Catalog) -> PointWork:
    return PointWork(plan=plan, seed=seed, catalog=catalog)


def ready_sweep(plan: SweepPlan, catalog: Catalog) -> ReadySweep:
    """All points of a sweep. Raises UsageError or DeclarationError if one is not sound."""
    recipe = plan.run.options.recipe(plan.run.recipe, catalog)
    axes = axes_of(recipe, plan.over, seeds_of(plan.seeds) if plan.seeds is not None else ())
    points = points_of(recipe, axes, catalog)
    for point in points:
        chosen_adapters(point.recipe, plan.run.only)
    return ReadySweep(plan=plan, recipe=recipe, axes=tuple(axes), points=tuple(points))


def sweep(ready: ReadySweep, catalog: Catalog) -> Sweep:
    """Every point trained and scored, and what came of them. What is finished already is not done again."""
    plan = ready.plan.run
    loaded: Loaded = {}
    bound = evaluation_tasks([point.recipe for point in ready.points], catalog, plan.options, loaded)
    scored = [task for found in bound for task in found]
    _check_metrics(ready.plan.metrics, scored)
    for point, found in zip(ready.points, bound, strict=True):
        load_format(point.recipe.spec.format, formats_of(found, catalog))
    quiet_libraries()
    refuse_unscorable(scored, allow_unsafe_code=plan.allow_unsafe_code)
    work = PointWork(plan=plan, seed=ready.recipe.spec.seed, catalog=catalog, loaded=loaded)
    outcomes = run_sweep(ready.points, work, plan.out)
    return summarise(ready.recipe.name, ready.axes, outcomes, ready.plan.metrics)


def _check_metrics(metrics: Sequence[str], tasks: Sequence[Task]) -> None:
    known: dict[str, None] = {}
    for task in tasks:
        known |= {f"{task.name}/{name}": None for scorer in task.scorers for name in scorer.values}
    names = {*known, *(key.partition("/")[2] for key in known)}
    for metric in metrics:
        if metric not in names:
            raise UsageError(f"no task here has the metric {metric!r}{did_you_mean(metric, known)}")
