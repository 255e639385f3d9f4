"""The head of a card: the YAML that the hub reads, made and written by huggingface_hub's own classes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slmbench.cards._facts import CardFacts
from slmbench.cards._licence import OTHER

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
TAG = "slmbench"


def is_hub_id(text: object) -> bool:
    """Whether a text can be the id of something on the hub, as owner/name."""
    return isinstance(text, str) and _HUB_ID.fullmatch(text) is not None and "--" not in text and ".." not in text


def head_of(facts: CardFacts) -> ModelCardData:
    """The head's data. What isn't known has no key: no guess stands where the hub sorts by it."""
    from huggingface_hub import ModelCardData

    base, licence = facts.base, facts.licence
    hub = base.hub if base is not None and not base.twin and facts.relation is not None else None
    data_sets = list(dict.fromkeys(one.hub for one in facts.data if one.hub is not None))
    more: dict[str, Any] = {}
    if hub is not None:
        more["base_model_relation"] = facts.relation
    if licence.license == OTHER and licence.name is not None:
        more["license_name"] = licence.name
    return ModelCardData(
        base_model=hub,
        library_name=facts.library if facts.kind != "evaluation" else None,
        # For encoder-decoders the hub and transformers have given theirs up.
        pipeline_tag="text-generation" if facts.architecture == "causal" else None,
        license=licence.license if facts.kind != "evaluation" else None,
        datasets=data_sets or None,
        tags=[*facts.tags, TAG],
        **more,
    )
