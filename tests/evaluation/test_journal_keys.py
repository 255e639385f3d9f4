"""Journals of killed runs are read by what comes later: the keys and facts of their lines, pinned.

`python tests/evaluation/test_journal_keys.py` writes them anew: then what was journaled before is computed again.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.engines.options import EngineOptions
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.journal import Journal
from slmbench.models import load_model, resolve_model
from slmbench.task import load_task

PINNED = Path(__file__).parent / "journal_keys.json"
# (model, task, options, samples an item)
ASKED = {
    "choices": ("nano", "nano_choice", {}, None),
    "choices, lm-eval's own engine": ("nano", "nano_choice", {"engine": "hf"}, None),
    "choices in chat": ("nano", "nano_choice", {"format": "chat"}, None),
    "texts": ("nano", "nano_note", {"format": "chat"}, None),
    "texts, another seed": ("nano", "nano_note", {"seed": 3}, None),
    "drawn texts": ("nano", "mbpp", {}, 3),
    "an encoder-decoder's choices": ("t5", "nano_choice", {}, None),
    "an encoder-decoder's texts": ("t5", "nano_note", {}, None),
}
TIMES = ("latency_ms", "share_ms")


def _models() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("conftest_of_all", Path(__file__).parents[1] / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"nano": load_model(resolve_model("nano", default_catalog())), "t5": module._tiny_t5()}


def _journaled(patch: pytest.MonkeyPatch, out: Path) -> Iterator[tuple[str, list[Any]]]:
    patch.setattr(EngineOptions, "version", property(lambda self: f"{self.name}/pinned"))
    models, append = _models(), Journal.append
    lines: list[Any] = []

    def kept(self: Journal, key: str, value: Any) -> None:
        facts = {name: said for name, said in value.items() if name not in TIMES}
        if "loglikelihood" in facts:
            facts["loglikelihood"] = round(facts["loglikelihood"], 2)
        lines.append([key, facts])
        append(self, key, value)

    patch.setattr(Journal, "append", kept)
    for name, (model, task, options, samples) in ASKED.items():
        lines.clear()
        bound = load_task(task, data="samples").with_samples(samples)
        chosen = EvaluationOptions(out=str(out / name), limit=2, allow_unsafe_code=True, **options)
        evaluate_tasks(models[model], [bound], chosen)
        yield name, json.loads(json.dumps(sorted(lines)))


def test_keys_and_facts_of_journals_are_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))
    assert pinned.keys() == ASKED.keys()
    for name, lines in _journaled(monkeypatch, tmp_path):
        assert lines == pinned[name], name


if __name__ == "__main__":
    import tempfile

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        found = dict(_journaled(patch, Path(folder)))
    PINNED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
