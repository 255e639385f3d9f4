"""Adapters that are named with each request to another program, which holds the base and reads them itself."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from attrs import evolve

from slmbench.errors import UsageError
from slmbench.models import (
    AdapterInfo,
    LoadedModel,
    ModelApart,
    check_base,
    check_config,
    check_requested,
    judge_base,
    own_tokenizer,
)
from slmbench.paths import shown


class AdaptersByRequest:
    """Adapters over a base whose weights are another program's, by name; `swap` says which one is asked for.

    It has of `AdapterBank` what an evaluation asks of it. An adapter's files are checked when it is added. base: of
    `load_apart`.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.base = loaded
        self._tuned: dict[str, LoadedModel] = {}

    @property
    def names(self) -> list[str]:
        """Of the adapters, in the order in which they were added."""
        return list(self._tuned)

    def add(self, name: str, folder: str, *, force_base: bool = False) -> AdapterInfo:
        """Makes an adapter known. Raises UsageError for one of another base, or that such programs don't compute."""
        apart = self.base.model
        assert isinstance(apart, ModelApart)
        info = check_base(self.base, folder, force=force_base)
        shape = check_requested(info, apart, self.base.dtype)
        check_config(info, apart)
        tokenizer, notices = own_tokenizer(info, self.base.tokenizer)
        if tokenizer is not self.base.tokenizer and tokenizer.get_vocab() != self.base.tokenizer.get_vocab():
            raise UsageError(
                f"adapter {shown(folder)} has a tokenizer with other tokens than its base's, which this engine doesn't "
                "know; take --engine shared or hf"
            )
        if info.forced:
            notices.insert(0, f"on a base that is not its own, as requested: adapter {info.name!r} {info.forced}")
        elif remark := judge_base(info, self.base).remark:
            notices.insert(0, remark)
        apart.loras.append(shape)
        told = (*self.base.notices, *notices)
        self._tuned[name] = evolve(self.base, adapter=info, tokenizer=tokenizer, notices=told)
        return info

    def swap(self, name: str | None) -> LoadedModel:
        """The model with an adapter that is asked for, or the base alone."""
        return self.base if name is None else self._tuned[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._tuned.clear()
