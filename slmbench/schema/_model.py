"""The declaration of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Spec

Family = Literal["llama", "qwen2", "phi3", "tinyllama", "smollm2", "t5", "nano"]


class TwinSpec(Spec):
    """The small random copy of a model: the same class and wiring, these sizes, a tokenizer of its own."""

    hidden: int = Field(default=128, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    head_width: int = Field(default=64, ge=2)
    feed_forward: int = Field(default=256, ge=8)
    context_tokens: int = Field(default=4096, ge=64)
    seed: int = 0


class LocalSpec(Spec):
    """How a model of the hub is had without it: from the folder or GGUF file that a variable names.

    env: the variable. package: a package of a package index that carries a file of the model; file: its path in there;
    note: how those weights differ from the hub's.
    """

    env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    package: str | None = None
    file: str | None = None
    note: str = ""

    @model_validator(mode="after")
    def _file_of_package(self) -> LocalSpec:
        if (self.package is None) != (self.file is None):
            raise ValueError("'package' and 'file' go together: which package, and which file in it")
        return self


class ModelSpec(Spec):
    """A language model: on the hub, in a folder, or bundled with the package.

    family: whose wiring, special tokens and chat template it has; a twin is built after it. instruct: tuned on turns
    of a chat, so that its tokenizer's EOS ends a turn.
    """

    summary: str = Field(min_length=1)
    source: str = ""
    hub: str | None = None
    path: str | None = None
    bundled: Literal["nano"] | None = None
    revision: str | None = None
    architecture: Literal["causal", "seq2seq"] = "causal"
    family: Family | None = None
    context_tokens: int = Field(ge=8)
    parameters: int | None = Field(default=None, ge=1)
    tied_head: bool | None = None
    instruct: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    lora_targets: list[str] | Literal["all-linear"] = "all-linear"
    license: str | None = None
    gated: bool = False
    remote_code: bool = False
    local: LocalSpec | None = None
    twin: TwinSpec | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ModelSpec:
        given = [key for key in ("hub", "path", "bundled") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a model has exactly one of 'hub', 'path', 'bundled'; got {' and '.join(given) or 'none'}"
            )
        if self.local is not None and self.hub is None:
            raise ValueError("'local' stands in for 'hub'; a model with a place of its own needs none")
        if self.twin is not None and self.family is None:
            raise ValueError("a twin is built after a `family`; declare it")
        return self
