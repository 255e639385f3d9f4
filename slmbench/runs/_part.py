"""The base of what records hold: closed where it is written, and described by its docstrings where it is exported."""

from __future__ import annotations

import inspect
import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from slmbench.foreign import AnyText, Foreign, Number
from slmbench.values import JsonObject

_FIELDS = re.compile(r"^(\w+(?:, \w+)*): (.+?)(?=^\w+(?:, \w+)*: |\Z)", re.DOTALL | re.MULTILINE)


def described(model: type[BaseModel]) -> dict[str, str]:
    """Field, by its name in the file -> what the docstrings of a model and of its bases say of it."""
    found: dict[str, str] = {}
    for kind in model.__mro__:
        _, _, fields = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("\n\n")
        for names, text in _FIELDS.findall(fields):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _describe(schema: JsonObject, model: type[BaseModel]) -> None:
    schema["description"] = " ".join(inspect.getdoc(model).partition("\n\n")[0].split())  # type: ignore[union-attr]
    texts = described(model)
    for name, field in schema["properties"].items():
        field["description"] = texts[name]


class Part(Foreign):
    """A part of a record. A key that it doesn't name can't be written; of what is read, such keys are left out.

    A line of the docstring that begins with a field's name and a colon is its description in the JSON schema.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_describe)


def _is_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("an ISO 8601 time") from None
    return text


def _is_not_empty(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _is_range(ends: list[float]) -> list[float]:
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError("null, or the lowest and the highest score of an item")
    return ends


Filled = Annotated[AnyText, AfterValidator(_is_not_empty)]
Range = Annotated[list[Number], AfterValidator(_is_range)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[AnyText, AfterValidator(_is_time)]


class MergePart(Part):
    """What a model or an adapter was merged of, by its merge.json.

    method: that it was merged by
    inputs: names of what was merged
    identity_sha256: of all that makes the merge what it is
    """

    method: AnyText
    inputs: list[AnyText]
    identity_sha256: AnyText | None = None


class CodePart(Part):
    """The slmbench that wrote a record.

    version: of the package
    commit: of the checkout; null if it was installed
    dirty: whether files of the checkout differed from the commit
    """

    version: AnyText | None = None
    commit: AnyText | None = None
    dirty: bool | None = None


class ImportedPart(Part):
    """The files of another tool that a run was made of.

    tool: that wrote them, as lm-eval
    version: of that tool
    file: name of its file of results
    sha256: of that file
    samples_sha256: of its file of samples
    same_prompts_as: the run of slmbench that was asked the very same, and that it is ranked with; null for none
    """

    tool: Filled
    version: AnyText | None = None
    file: AnyText | None = None
    sha256: AnyText | None = None
    samples_sha256: AnyText | None = None
    same_prompts_as: AnyText | None = None


class RescoredPart(Part):
    """The run whose answers a re-scored run has.

    run_id: of that run
    record_sha256: of its record; null if it has none
    samples_sha256: of its samples.jsonl
    code: the slmbench that it was written by
    verdicts: run if its programs were run again, kept if not; not there without programs
    """

    run_id: Filled
    record_sha256: AnyText | None = None
    samples_sha256: AnyText
    code: CodePart | None = None
    verdicts: AnyText | None = None
