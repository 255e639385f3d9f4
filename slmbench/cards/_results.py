"""`.eval_results/*.yaml`: scores as the hub takes them, one file for each way that a task was asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slmbench.cards._facts import CardScore
from slmbench.cards._head import is_hub_id

FOLDER = ".eval_results"
HEAD = "# Written by `slmbench card`, which writes it again and removes it.\n"
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DAY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def result_files(scores: Sequence[CardScore]) -> tuple[dict[str, bytes], list[str]]:
    """(name below the card's folder -> content, why which score has none).

    Only primary metrics of whole runs on rows of the hub have one: elsewhere such a number is taken for the data set's.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    files: dict[str, bytes] = {}
    left_out: list[str] = []
    for score in scores:
        if not score.primary:
            continue
        if (why := _why_not(score)) is not None:
            left_out.append(f"{score.task}: {why}")
            continue
        entry = EvalResultEntry(
            dataset_id=str(score.data),
            task_id=_NAME.sub("-", score.task),
            value=round(score.estimate.value, 6),
            dataset_revision=score.revision if score.revision and _COMMIT.fullmatch(score.revision) else None,
            date=score.ended if _DAY.fullmatch(score.ended) else None,
            notes=_notes(score),
        )
        name = f"{_NAME.sub('-', score.task)[:80]}-{score.key}.yaml"
        told = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=10_000)
        files[f"{FOLDER}/{name}"] = (HEAD + told).encode()
    return files, left_out


def _why_not(score: CardScore) -> str | None:
    """Why a score is no result of its data set; None if it is one."""
    if score.badges:
        return f"its run is badged ({', '.join(score.badges)})"
    if score.source not in ("hub", "mirror"):
        return f"its rows are of source {score.source!r}, and not those of a data set of the hub"
    if not is_hub_id(score.data):
        return "its data set has no id on the hub"
    return None


def _notes(score: CardScore) -> str:
    """On one line: what the format has no field for."""
    made = score.estimate
    span = [] if made.method == "none" else [f"95% CI {made.ci_low:.4f} to {made.ci_high:.4f}"]
    said = [score.metric, f"n={made.n}", *span, score.asked, f"slmbench {score.key}"]
    return " ".join(", ".join(part for part in said if part).split())
