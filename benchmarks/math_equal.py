r"""math_equal against lm-eval's two judges of MATH and against math-verify, on 369 real answers, one by one.

    pip install math-verify antlr4-python3-runtime==4.11.1
    python benchmarks/math_equal.py

`math_answers.jsonl` beside this file has a pair of gold and given answer a line, with its source, and a word on each
pair on which the judges differ: who is right, and why. Every judge is asked for the same two bare answers, in a box as
models write them if it looks for one. lm-eval's judges: `is_equiv` of its hendrycks_math, which compares spellings, and
that of its minerva_math, which parses with sympy after an own normalisation.

Sources, all MIT: qwen (answers of Qwen2.5-Math to 100 problems of MATH, QwenLM/Qwen2.5-Math, evaluation/data), gemma
(answers to MATH-500, bwu1234/math500-eval-prm, report.html), math-verify (huggingface/Math-Verify, its tests, most of
them observed in models' outputs). Gold answers are those of MATH (hendrycks/math, MIT), or of these tests.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAIRS = Path(__file__).resolve().parent / "math_answers.jsonl"
Judge = Callable[[str, str], bool]


def judges() -> dict[str, Judge]:
    """name -> judge(gold, answer)."""
    import lm_eval.tasks
    from math_verify import parse, verify

    from slmbench.metrics.math_equal import math_equal, same_spelling

    def of_lm_eval(name: str) -> Any:
        path = Path(lm_eval.tasks.__file__).parent / name / "utils.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    hendrycks, minerva = of_lm_eval("hendrycks_math"), of_lm_eval("minerva_math")

    def boxed(answer: str) -> str:
        return f"$\\boxed{{{answer}}}$"

    def minervas(gold: str, answer: str) -> bool:
        made = [minerva.normalize_final_answer(text) for text in (answer, gold)]
        return bool(minerva.is_equiv(*made))

    return {
        "math_equal": lambda gold, answer: math_equal(boxed(answer), [boxed(gold)]) == 1,
        "strict": same_spelling,
        "hendrycks": lambda gold, answer: bool(hendrycks.is_equiv(answer, gold)),
        "minerva": minervas,
        "math-verify": lambda gold, answer: bool(verify(parse(boxed(gold)), parse(boxed(answer)))),
    }


def main() -> int:
    import logging

    logging.disable(logging.CRITICAL)  # sympy and math-verify tell of every text that they can't parse.
    pairs = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    verdicts: dict[str, list[bool]] = {}
    seconds: dict[str, float] = {}
    for name, judge in judges().items():
        begun = time.perf_counter()
        verdicts[name] = [judge(pair["gold"], pair["answer"]) for pair in pairs]
        seconds[name] = time.perf_counter() - begun
    right = [bool(pair["right"]) for pair in pairs]
    print(f"{len(pairs)} pairs, {sum(right)} right by hand where judges differ, and by all of them elsewhere")
    print(f"{'judge':<12} {'as by hand':>10} {'false yes':>9} {'false no':>8} {'as math_equal':>13} {'ms a pair':>9}")
    for name, said in verdicts.items():
        agree = sum(a == b for a, b in zip(said, right, strict=True))
        yes = sum(a and not b for a, b in zip(said, right, strict=True))
        ours = sum(a == b for a, b in zip(said, verdicts["math_equal"], strict=True))
        row = f"{agree:>10} {yes:>9} {len(pairs) - agree - yes:>8} {ours:>13} {1000 * seconds[name] / len(pairs):>9.2f}"
        print(f"{name:<12} {row}")
    print("\npairs on which they differ; yes of: m math_equal, h hendrycks, v minerva, y math-verify; + right, - wrong")
    for at, pair in enumerate(pairs):
        said = {name: verdicts[name][at] for name in verdicts}
        if len(set(said.values())) > 1:
            marks = "".join(
                mark if said[name] else "."
                for mark, name in zip("mhvy", ("math_equal", "hendrycks", "minerva", "math-verify"), strict=True)
            )
            why = pair.get("why", "")
            print(f"{marks} {'+' if right[at] else '-'} {pair['gold']!r} | {pair['answer']!r}: {why}")
    if verdicts["strict"] != verdicts["hendrycks"]:
        print("math_equal/strict and lm-eval's hendrycks_math differ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
