"""The declaration of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Spec


class ModelSpec(Spec):
    """A causal language model: on the hub, in a folder, or bundled with the package."""

    summary: str = Field(min_length=1)
    hub: str | None = None
    path: str | None = None
    bundled: Literal["nano"] | None = None
    revision: str | None = None
    architecture: Literal["causal"] = "causal"
    context_tokens: int = Field(ge=8)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    lora_targets: list[str] | Literal["all-linear"] = "all-linear"
    license: str | None = None
    remote_code: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> ModelSpec:
        given = [key for key in ("hub", "path", "bundled") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a model has exactly one of 'hub', 'path', 'bundled'; got {' and '.join(given) or 'none'}"
            )
        return self
