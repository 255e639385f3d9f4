"""What is written is held to the model that it will be read by, so that a record's shape is defined once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from pydantic import BaseModel

from slmbench.foreign import faults, parse


def check_written(model: type[BaseModel], record: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """Raises FileError if a record doesn't have the model's types, or has a key that the model doesn't name."""
    parse(model, json.loads(json.dumps(dict(record))), path)
    known = {field.alias or name for name, field in model.model_fields.items()}
    if strange := [key for key in record if key not in known]:
        raise faults(path, [(strange[0], record[strange[0]], f"a field of {model.__name__}")])
