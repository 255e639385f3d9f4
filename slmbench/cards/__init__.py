"""Model cards: README.md and `.eval_results` as the hub reads them, of what was trained, merged or measured."""

from slmbench.cards._facts import CardBase, CardData, CardFacts, CardScore, Kind, Relation
from slmbench.cards._head import is_hub_id
from slmbench.cards._licence import Licensed, strictest
from slmbench.cards._push import Upload, planned_upload, push, refuse_push
from slmbench.cards._trained import hardware_words
from slmbench.cards._write import CardFiles, write_card

__all__ = [
    "CardBase",
    "CardData",
    "CardFacts",
    "CardFiles",
    "CardScore",
    "Kind",
    "Licensed",
    "Relation",
    "Upload",
    "hardware_words",
    "is_hub_id",
    "planned_upload",
    "push",
    "refuse_push",
    "strictest",
    "write_card",
]
