"""Routers on five real sets, with the hidden states of the real SmolLM2-135M-Instruct: is TF-IDF beaten, at what cost?

    SLMBENCH_DATA=MIRROR SLMBENCH_SMOLLM2=FILE.gguf python benchmarks/routing.py

Rows of icliniq, medquad, gsm8k, code_alpaca and squad: 300 of each train split to fit on and 60 to choose by, or what
there is, and up to 200 of the evaluated split held out, none of whose texts was fitted on. What a router sees is the
user's text alone (`slmbench.routing.user_text`). For every head: accuracy on the held-out texts with its interval, the
paired difference to TF-IDF, how many texts of a sixth set that no adapter is for (dolly_hhrlhf, everyday instructions)
still go to an adapter, how many held-out texts go to the base, and the median milliseconds of a request, one after
another: by the clock, and of CPU, which what else the machine does changes less. Then the head that `auto` takes, held
against TF-IDF, the named peer. `--threads N` for torch.

    ... python benchmarks/routing.py --adapters gsm8k=DIR medquad=DIR [--limit 24]

also evaluates two real adapters of that model: base, random, routed and oracle, and the regret with its interval.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

FIVE = ("icliniq", "medquad", "gsm8k", "code_alpaca", "squad")
SIXTH = "dolly_hhrlhf"
HELD_OUT = 200
TIMED = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--adapters", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--limit", type=int, default=24)
    given = parser.parse_args()
    model, data = os.environ.get("SLMBENCH_SMOLLM2"), os.environ.get("SLMBENCH_DATA")
    if not model or not data:
        print("skipped: needs SLMBENCH_SMOLLM2 and SLMBENCH_DATA")
        return 0
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    if given.adapters:
        return real_adapters(model, dict(one.split("=", 1) for one in given.adapters), given.limit)
    return five_sets(model)


def five_sets(model: str) -> int:
    import numpy as np

    from slmbench.catalog import default_catalog
    from slmbench.models import load_model, resolve_model
    from slmbench.routing import BASE_TEXTS, texts_of, user_text
    from slmbench.routing._choose import choose_head
    from slmbench.routing._features import BaseFeatures
    from slmbench.routing._fit import _FITS, TRIED, _try
    from slmbench.routing._heads import Labeled
    from slmbench.statistics.estimate import estimate
    from slmbench.task import load_task

    tasks = {name: load_task(name) for name in (*FIVE, SIXTH)}
    texts = [texts_of(tasks[name], 300, 60) for name in FIVE]
    known = {text for one in texts for text in (*one.fit, *one.validation)}
    held: list[list[str]] = []
    for name in FIVE:
        rows = tasks[name].examples(tasks[name].spec.split)
        fresh = dict.fromkeys(user_text(tasks[name], row) for row in rows)
        held.append([text for text in fresh if text not in known][:HELD_OUT])
    sixth = list(dict.fromkeys(user_text(tasks[SIXTH], row) for row in tasks[SIXTH].examples("test")))[:HELD_OUT]
    counts = [f"{one.task} {len(one.fit)} + {len(one.validation)}" for one in texts]
    told = "; ".join(f"{count}, {len(some)}" for count, some in zip(counts, held, strict=True))
    print(f"to fit + to choose by, held out: {told}")
    loaded = load_model(resolve_model(model, default_catalog()))
    base = BaseFeatures(loaded, keep=True)
    rows = Labeled([t for one in texts for t in one.fit], [k for k, one in enumerate(texts) for _ in one.fit], 5)
    chosen_by = [t for one in texts for t in one.validation]
    labels = [k for k, one in enumerate(texts) for _ in one.validation]
    asked, right = [t for some in held for t in some], [k for k, some in enumerate(held) for _ in some]
    tried, correct, ms, cpu_ms, lines = {}, {}, {}, {}, []
    for name in TRIED:
        start = time.perf_counter()
        head = _FITS[name](rows, base)
        seconds = time.perf_counter() - start
        shares = head.shares(chosen_by, base)
        tried[name] = _try(head, shares, labels, shares, head.shares(BASE_TEXTS, base), labels)
        found, strange = head.shares(asked, base), head.shares(sixth, base)
        correct[name] = [float(a == b) for a, b in zip(found.argmax(1), right, strict=True)]
        at = tried[name].threshold.value
        fresh = BaseFeatures(loaded)
        sample = asked[:: max(1, len(asked) // TIMED)]
        head.shares(sample[:1], fresh)
        taken = []
        for text in sample:
            start = time.perf_counter(), time.process_time()
            head.shares([text], fresh)
            taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        ms[name], cpu_ms[name] = (float(value) for value in np.median(taken, axis=0) * 1000)
        lines.append((name, seconds, float((strange.max(1) >= at).mean()), float((found.max(1) < at).mean())))
    columns = (("accuracy", 24), ("less TF-IDF", 28), ("sixth routed", 18), ("known to base", 15))
    columns += (("ms", 8), ("CPU ms", 8), ("fit s", 8))
    print(f"{'head':10}" + "".join(f"{title:>{width}}" for title, width in columns))
    for name, seconds, false_routes, to_base in lines:
        one = estimate(correct[name], range=(0.0, 1.0))
        lead = estimate([a - b for a, b in zip(correct[name], correct["tfidf"], strict=True)], range=(-1.0, 1.0))
        accuracy = f"{one.value:.4f} [{one.ci_low:.4f}, {one.ci_high:.4f}]"
        less = "" if name == "tfidf" else f"{lead.value:+.4f} [{lead.ci_low:+.4f}, {lead.ci_high:+.4f}]"
        costs = f"{ms[name]:>8.2f}{cpu_ms[name]:>8.2f}{seconds:>8.1f}"
        print(f"{name:10}{accuracy:>24}{less:>28}{false_routes:>18.1%}{to_base:>15.1%}{costs}")
    least = sum(tried["tfidf"].correct)
    able = {name: one.outcome for name, one in tried.items() if name != "length" and sum(one.correct) >= least}
    choice = choose_head(able)
    ours, theirs = (sum(correct[name]) / len(asked) for name in (choice.name, "tfidf"))
    print(f"auto takes {choice.name}: {choice.why}")
    print(f"accuracy of the chosen router over TF-IDF's: {ours / theirs:.4f} (wanted: 1 or more)")
    print(f"TF-IDF {ms['tfidf']:.2f} ms a request, {cpu_ms['tfidf']:.2f} of CPU (wanted: under 5)")
    slowest = max(("centroid", "logistic"), key=ms.__getitem__)
    print(f"hidden states {ms[slowest]:.1f} ms a request, {cpu_ms[slowest]:.1f} of CPU (wanted: under 60)")
    return 0 if ours >= theirs else 1


def real_adapters(model: str, folders: dict[str, str], limit: int) -> int:
    from slmbench.catalog import default_catalog
    from slmbench.evaluation import EvaluationOptions
    from slmbench.task import Settings
    from slmbench.workflow.route import RouterPlan, RouterTrial, fit, save, try_router

    catalog = default_catalog()
    router = fit(RouterPlan(model=model, adapters=tuple(folders.values())), catalog)
    with tempfile.TemporaryDirectory() as out:
        save(router, os.path.join(out, "router"))
        options = EvaluationOptions(out=out, limit=limit)
        # BERTScore would need a large model of its own.
        names = ("exact_match/flexible", "rouge")
        trial = RouterTrial(router=os.path.join(out, "router"), options=options, settings=Settings(metrics=names))
        found = try_router(trial, catalog)
    print(f"head {router.head.name}: {router.facts['why']}")
    for row in found.board.rows:
        told = "; ".join(f"{key} {cell.estimate.value:.4f}" for key, cell in row.cells.items())
        print(f"{row.name}: {told}")
    for name, value in (("accuracy", found.routing.accuracy), ("regret", found.routing.regret)):
        if value is not None:
            print(f"{name} {value.value:.4f} [{value.ci_low:.4f}, {value.ci_high:.4f}] on {value.n} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
