"""A Task as lm-eval sees it: every prompt rendered by our formats, lm-eval's own few-shot and chat code left out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from slmbench.errors import SlmbenchError
from slmbench.formats import Format, Rendered
from slmbench.task import Task
from slmbench.values import Example, Output


def generation_kwargs(task: Task) -> dict[str, Any]:
    """What lm-eval is told about decoding: greedy, bounded, with explicit stops (none means none, not its default)."""
    generation = task.spec.generation
    return {
        "until": list(generation.stop),
        "do_sample": False,
        "temperature": 0.0,
        "max_gen_toks": generation.max_tokens,
    }


def build_harness_task(task: Task, examples: Sequence[Example], rendered: Sequence[Rendered]) -> Any:
    """An lm-eval ConfigurableTask over these examples, whose prompts are exactly the rendered texts."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import datasets
    from lm_eval.api.task import ConfigurableTask

    delimiters = {one.delimiter for one in rendered}
    if len(delimiters) != 1:
        raise SlmbenchError(f"task {task.name!r}: prompts with different answer delimiters: {sorted(delimiters)}")
    rows = datasets.Dataset.from_list([{"index": index} for index in range(len(examples))])
    config: dict[str, Any] = {
        "task": task.name,
        "custom_dataset": lambda **_: {"test": rows},
        "test_split": "test",
        "doc_to_text": lambda doc: rendered[doc["index"]].text,
        "target_delimiter": delimiters.pop(),
        "num_fewshot": 0,
        "process_results": lambda doc, results: _scores(task, examples[doc["index"]], results),
        "metric_list": [
            {"metric": value, "aggregation": "mean", "higher_is_better": scorer.higher_is_better}
            for scorer in task.scorers
            for value in scorer.values
        ],
        "metadata": {"version": task.version},
    }
    if task.kind == "choice":
        config |= {
            "output_type": "multiple_choice",
            "doc_to_choice": lambda doc: list(examples[doc["index"]].choices),
            "doc_to_target": lambda doc: examples[doc["index"]].gold,
        }
    else:
        config |= {
            "output_type": "generate_until",
            "doc_to_target": lambda doc: task.answer(examples[doc["index"]]),
            "generation_kwargs": generation_kwargs(task),
        }
    return ConfigurableTask(config=config)


def render_all(task: Task, examples: Sequence[Example], format: Format, tokenizer: Any) -> list[Rendered]:
    """The rendered prompts of examples, in order."""
    return [format.render(task.prompt(example), tokenizer) for example in examples]


def _scores(task: Task, example: Example, results: Sequence[Any]) -> dict[str, float]:
    if task.kind == "choice":
        output = Output(loglikelihoods=tuple(float(loglikelihood) for loglikelihood, _ in results))
    else:
        output = Output(text=results[0])
    return {score.metric: score.value for score in task.score(example, output)}
