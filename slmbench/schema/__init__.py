"""Pydantic specs, one for each kind of declaration."""

from slmbench.schema._base import Spec, parse, plain_name
from slmbench.schema._dataset import ColumnType, DatasetSpec, HoldoutSpec, ReadSpec
from slmbench.schema._format import BlocksSpec
from slmbench.schema._grid import GridExclusionSpec, GridRecipeSpec, GridSpec
from slmbench.schema._merge import (
    MergeInputSpec,
    MergeRecipeSpec,
    MergeSearchSpec,
    MergeSpec,
    MergeTrainSpec,
    result_name,
)
from slmbench.schema._model import ModelSpec, TwinSpec
from slmbench.schema._optim import MixingSpec, OptimSpec
from slmbench.schema._published import LATENCY, OTHER, UNITS, Figure, InFilesSpec, PublishedSpec, UnderSpec
from slmbench.schema._recipe import (
    AdapterSpec,
    CheckpointSpec,
    EvaluationSpec,
    InitialAdapterSpec,
    LoraSpec,
    QuantizationSpec,
    RecipeSpec,
    RowsSpec,
    SuiteSpec,
    ValidationSpec,
)
from slmbench.schema._targets import TARGETS_OF_LABELS, targets_label
from slmbench.schema._task import (
    CodeSpec,
    CotMode,
    CotSpec,
    FewshotSpec,
    FormPromptSpec,
    FormSpec,
    GenerationSpec,
    PromptSpec,
    TaskSpec,
)

__all__ = [
    "LATENCY",
    "OTHER",
    "TARGETS_OF_LABELS",
    "UNITS",
    "AdapterSpec",
    "BlocksSpec",
    "CheckpointSpec",
    "CodeSpec",
    "ColumnType",
    "CotMode",
    "CotSpec",
    "DatasetSpec",
    "EvaluationSpec",
    "FewshotSpec",
    "Figure",
    "FormPromptSpec",
    "FormSpec",
    "GenerationSpec",
    "GridExclusionSpec",
    "GridRecipeSpec",
    "GridSpec",
    "HoldoutSpec",
    "InFilesSpec",
    "InitialAdapterSpec",
    "LoraSpec",
    "MergeInputSpec",
    "MergeRecipeSpec",
    "MergeSearchSpec",
    "MergeSpec",
    "MergeTrainSpec",
    "MixingSpec",
    "ModelSpec",
    "OptimSpec",
    "PromptSpec",
    "PublishedSpec",
    "QuantizationSpec",
    "ReadSpec",
    "RecipeSpec",
    "RowsSpec",
    "Spec",
    "SuiteSpec",
    "TaskSpec",
    "TwinSpec",
    "UnderSpec",
    "ValidationSpec",
    "parse",
    "plain_name",
    "result_name",
    "targets_label",
]
