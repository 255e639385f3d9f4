"""A Task as lm-eval sees it: every prompt rendered by our formats, lm-eval's own few-shot and chat code left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import frozen

from slmbench.errors import SlmbenchError
from slmbench.evaluation._judge import ReadAnswer, read_answer
from slmbench.evaluation._targets import ScoredTargets
from slmbench.formats import Format
from slmbench.metrics import Scorer
from slmbench.task import Task, reads_targets
from slmbench.values import Example, JsonObject, Output, Target, Tokenizer

FILTER = "none"
OF_SAMPLES = "of_samples"
"""What lm-eval's samples have of an item with several texts, once `add_of_samples` has been called: their scores."""
OfSamples = dict[int, list[dict[str, float]]]
"""Number of an item -> what each of its texts scores, metric by metric."""
Judge = Callable[[Sequence[Sequence[str]], Sequence[int]], list[list[ReadAnswer]]]
"""(the outputs of each item, the items' indices) -> what each output was worth."""


@frozen
class Request:
    """One item as it is sent: a context, or one a choice; the delimiter; what is scored after it (choice tasks).

    target: what the model is to write, as the format writes it; '' if no metric reads how likely it is.
    """

    texts: tuple[str, ...]
    delimiter: str
    continuations: tuple[str, ...] = ()
    target: str = ""

    @property
    def text(self) -> str:
        """The context; where each choice has its own, the first one's."""
        return self.texts[0]


def render_all(task: Task, examples: Sequence[Example], format: Format, tokenizer: Tokenizer) -> list[Request]:
    """The requests of examples, in order."""
    return [_request(task, example, format, tokenizer) for example in examples]


def _request(task: Task, example: Example, format: Format, tokenizer: Tokenizer) -> Request:
    if example.continuation is not None:
        each = [task.render(format, tokenizer, example, i) for i in range(len(example.choices))]
        rest = format.write(Target(example.continuation))
        return Request(tuple(one.text for one in each), each[0].delimiter, (rest,))
    rendered = task.render(format, tokenizer, example)
    written = tuple(format.write(Target(choice)) for choice in example.choices)
    target = format.write(task.target(example)) if reads_targets(task.scorers) else ""
    return Request((rendered.text,), rendered.delimiter, written, target)


def scored_choices(example: Example, loglikelihoods: tuple[float, ...], format: Format) -> Output:
    """What the log-likelihoods of an example's choices are, with the texts that they are of."""
    texts = example.choices if example.continuation is None else (example.continuation,) * len(example.choices)
    return Output(loglikelihoods=loglikelihoods, written=tuple(format.write(Target(text)) for text in texts))


def generation_kwargs(task: Task, format: Format) -> JsonObject:
    """What lm-eval is told about decoding: bounded, with explicit stops (none means none, not its default)."""
    generation = task.spec.generation
    sampled = generation.temperature > 0
    return {
        "until": format.stop(task.in_format(format).stop),
        "do_sample": sampled,
        "temperature": generation.temperature,
        "max_gen_toks": task.max_tokens,
    } | ({"top_p": generation.top_p} if sampled else {})


def build_harness_task(
    task: Task,
    examples: Sequence[Example],
    requests: Sequence[Request],
    format: Format,
    judge: Judge | None = None,
    places: Sequence[int] | None = None,
    of_samples: OfSamples | None = None,
    targets: ScoredTargets = MappingProxyType({}),
) -> Any:
    """An lm-eval ConfigurableTask over these examples, whose prompts are exactly the rendered texts.

    judge: runs the outputs of a code task; None where nothing will be scored. places: which of the examples are asked,
    in that order; None for all. of_samples: gets the scores of each text of items that have several. targets: how
    likely those of the items are, if metrics read it.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import datasets
    from lm_eval.api.task import ConfigurableTask

    delimiters = {one.delimiter for one in requests}
    if len(delimiters) != 1:
        raise SlmbenchError(f"task {task.name!r}: prompts with different answer delimiters: {sorted(delimiters)}")
    rows = datasets.Dataset.from_list(
        [{"index": index} for index in (range(len(examples)) if places is None else places)]
    )
    ahead: dict[int, list[dict[str, float]]] = {}
    each: OfSamples = {} if of_samples is None else of_samples
    config: dict[str, Any] = {
        "task": task.name,
        "custom_dataset": lambda **_: {"test": rows},
        "test_split": "test",
        "target_delimiter": delimiters.pop(),
        "num_fewshot": 0,
        "process_results": lambda doc, results: _scores(
            task, examples[doc["index"]], results, format, ahead.get(doc["index"], []), doc["index"], each, targets
        ),
        "metric_list": [
            {"metric": value, "aggregation": _aggregation(scorer, value), "higher_is_better": scorer.higher_is_better}
            for scorer in task.scorers
            for value in scorer.values
        ],
        "metadata": {"version": task.version},
    }
    if task.kind == "choice":
        config["output_type"] = "multiple_choice"
        if examples[0].continuation is not None:  # What lm-eval calls multiple inputs.
            config |= {
                "doc_to_text": lambda doc: examples[doc["index"]].gold,
                "doc_to_choice": lambda doc: list(requests[doc["index"]].texts),
                "doc_to_target": lambda doc: requests[doc["index"]].continuations[0],
            }
        else:
            config |= {
                "doc_to_text": lambda doc: requests[doc["index"]].text,
                "doc_to_choice": lambda doc: list(requests[doc["index"]].continuations),
                "doc_to_target": lambda doc: examples[doc["index"]].gold,
            }
    else:
        config |= {
            "output_type": "generate_until",
            "doc_to_text": lambda doc: requests[doc["index"]].text,
            "doc_to_target": lambda doc: task.answer(examples[doc["index"]]),
            "generation_kwargs": generation_kwargs(task, format),
        }
    if task.kind == "generate":
        # The default filter keeps the first of an item's samples and drops the others; so does `take_first`.
        batched = _score_ahead(task, examples, format, ahead, targets)
        config["repeats"] = task.spec.generation.samples
        config["filter_list"] = [{"name": FILTER, "filter": [{"function": "custom", "filter_fn": batched}]}]
    if task.kind == "code":
        config["repeats"] = task.spec.generation.samples
        if judge is not None:
            judged = _on_documents(judge)
            config["filter_list"] = [{"name": FILTER, "filter": [{"function": "custom", "filter_fn": judged}]}]
    return ConfigurableTask(config=config)


def _on_documents(judge: Judge) -> Callable[[Any, Any], list[list[ReadAnswer]]]:
    return lambda responses, docs: judge([list(one) for one in responses], [doc["index"] for doc in docs])


def _score_ahead(
    task: Task, examples: Sequence[Example], format: Format, ahead: OfSamples, targets: ScoredTargets
) -> Callable[[Any, Any], Any]:
    """A filter that changes nothing: it is where all outputs are at hand, for metrics that score them in batches."""

    def scored(responses: Any, docs: Any) -> Any:
        responses = [list(one) for one in responses]
        indices = [doc["index"] for doc in docs]
        scorers = [scorer for scorer in task.scorers if scorer.score_all is not None]
        texts = [(index, text) for index, samples in zip(indices, responses, strict=True) for text in samples]
        made = [(index, _read(format, examples[index], text, index, targets)) for index, text in texts]
        values: list[dict[str, float]] = [{} for _ in made]
        for scorer in scorers:
            found = scorer.scores([task.judged(scorer, examples[index], output) for index, output in made])
            for value, more in zip(values, found, strict=True):
                value.update(more)
        ahead.update((index, []) for index in indices)
        for (index, _), value in zip(made, values, strict=True):
            ahead[index].append(value)
        return responses

    return scored


def _aggregation(scorer: Scorer, value: str) -> object:
    if not scorer.pooled:
        return "mean"
    pool = scorer.pool
    assert pool is not None
    return lambda parts: pool(parts)[value]


def add_of_samples(results: JsonObject, task: str, of_samples: OfSamples) -> None:
    """Puts the scores of an item's texts, as `build_harness_task` found them, to lm-eval's sample of it."""
    for sample in results["samples"][task]:
        if (scores := of_samples.get(sample["doc"]["index"])) is not None:
            sample[OF_SAMPLES] = scores


def mean_scores(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metric by metric, the mean of what an item's samples score."""
    return {name: math.fsum(one[name] for one in samples) / len(samples) for name in samples[0]}


def most_remarks(samples: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Remark by remark, the most that is said of one of an item's samples: an item counts once."""
    found: dict[str, int] = {}
    for one in samples:
        found |= {remark: max(n, found.get(remark, 0)) for remark, n in one.items()}
    return found


def _scores(
    task: Task,
    example: Example,
    results: Sequence[Any],
    format: Format,
    ahead: Sequence[dict[str, float]],
    index: int,
    of_samples: OfSamples,
    targets: ScoredTargets,
) -> JsonObject:
    if task.kind == "choice":
        loglikelihoods = tuple(float(loglikelihood) for loglikelihood, _ in results)
        return _values(task, example, scored_choices(example, loglikelihoods, format), {})
    if task.kind == "code":
        output = Output(text=results[0][0].text, verdicts=tuple(answer.verdict for answer in results[0]))
        return _values(task, example, _with_target(output, index, targets), {})
    texts = [_read(format, example, text, index, targets) for text in results[0]]
    found = [_values(task, example, text, known) for text, known in zip(texts, ahead, strict=True)]
    if len(found) == 1:
        return found[0]
    of_samples[index] = found
    return mean_scores(found)


def _read(format: Format, example: Example, text: str, index: int, targets: ScoredTargets) -> Output:
    return _with_target(Output(text=read_answer(format, example, text).text), index, targets)


def _with_target(output: Output, index: int, targets: ScoredTargets) -> Output:
    return targets[index].beside(output) if index in targets else output


def _values(task: Task, example: Example, output: Output, ahead: Mapping[str, float]) -> JsonObject:
    values: dict[str, Any] = {}
    for scorer in task.scorers:
        if scorer.score_all is not None and set(scorer.values) <= set(ahead):
            values |= {name: ahead[name] for name in scorer.values}
            continue
        judged = task.judged(scorer, example, output)
        if scorer.pooled:
            assert scorer.parts is not None
            values |= dict.fromkeys(scorer.values, scorer.parts(*judged))
        else:
            values |= scorer.score(*judged)
    return values
