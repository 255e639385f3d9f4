"""A matrix: models, adapters and recipes crossed with tasks, formats and seeds, and the jobs that this takes."""

from slmbench.matrix._expand import Grid, load_grid
from slmbench.matrix._forecast import PastCost, PastCosts
from slmbench.matrix._jobs import EvaluationWork, able_of, jobs_of, missing_of, training_of
from slmbench.matrix._values import GridAsking, GridCell, GridSubject, GridTraining

__all__ = [
    "EvaluationWork",
    "Grid",
    "GridAsking",
    "GridCell",
    "GridSubject",
    "GridTraining",
    "PastCost",
    "PastCosts",
    "able_of",
    "jobs_of",
    "load_grid",
    "missing_of",
    "training_of",
]
