"""Pydantic specs, one for each kind of declaration."""

from slmbench.schema._base import Spec, parse, plain_name
from slmbench.schema._dataset import DatasetSpec
from slmbench.schema._model import ModelSpec
from slmbench.schema._recipe import AdapterSpec, EvaluationSpec, LoraSpec, OptimSpec, RecipeSpec, SuiteSpec
from slmbench.schema._task import CodeSpec, CotMode, CotSpec, FewshotSpec, GenerationSpec, PromptSpec, TaskSpec

__all__ = [
    "AdapterSpec",
    "CodeSpec",
    "CotMode",
    "CotSpec",
    "DatasetSpec",
    "EvaluationSpec",
    "FewshotSpec",
    "GenerationSpec",
    "LoraSpec",
    "ModelSpec",
    "OptimSpec",
    "PromptSpec",
    "RecipeSpec",
    "Spec",
    "SuiteSpec",
    "TaskSpec",
    "parse",
    "plain_name",
]
