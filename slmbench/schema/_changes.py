"""Some keys of a block alone, held to the block's own rules: what an adapter has in place of its recipe's settings."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import SerializerFunctionWrapHandler, create_model, model_serializer

from slmbench.schema._base import Spec, SpecT


class Changes(Spec):
    """Keys of another block, as many as are given. What is not given is not there, in a dump neither."""

    @model_serializer(mode="wrap")
    def _only_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}

    def given(self) -> dict[str, Any]:
        """key -> value of those that are given, null among them."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}


def changes_to(spec: type[Spec], summary: str) -> type[Changes]:
    """The block of some of another one's keys, each as there."""
    fields: dict[str, Any] = {}
    for key, field in spec.model_fields.items():
        mine = copy.copy(field)
        # Of a key that is left out this is never read.
        mine.default = None
        fields[key] = (mine.annotation, mine)
    made: type[Changes] = create_model(
        f"{spec.__name__.removesuffix('Spec')}Changes", __base__=Changes, __doc__=summary, **fields
    )
    return made


def changed(spec: SpecT, changes: Changes | None, *pairs: tuple[str, str]) -> SpecT:
    """The block with these keys in it. pairs: of each the one that is given takes the other's place.

    Raises pydantic's ValidationError if they don't go with the others.
    """
    given = {} if changes is None else changes.given()
    if not given:
        return spec
    for one, other in pairs:
        for key, beside in ((one, other), (other, one)):
            if given.get(key) is not None and beside not in given:
                given[beside] = None
    return type(spec).model_validate(dict(spec) | given)
