"""The token ids that evaluation would send, taken from lm-eval's own requests: what training is held against."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from slmbench.evaluation._encoding import Encoder
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.evaluation._quiet import quiet_harness
from slmbench.formats import Format
from slmbench.models import LoadedModel
from slmbench.task import Task
from slmbench.values import Example


@frozen
class SentRequest:
    """What evaluation sends for one example: the context's text and ids, and how the right answer continues them.

    delimiter: what stands between text and answer. joint: the ids of context and answer encoded together, as
    log-likelihood scoring does. decoder: of an encoder-decoder, whose prompt is all that the encoder is given, the ids
    of delimiter and answer that its decoder is scored on; None for a causal model.
    """

    text: str
    delimiter: str
    prompt: list[int]
    joint: list[int]
    decoder: list[int] | None = None


def sent_requests(loaded: LoadedModel, task: Task, examples: Sequence[Example], format: Format) -> list[SentRequest]:
    """Evaluation's requests for examples, through a real lm-eval task and the encoding that every engine is handed.

    Whole, before anything that is too long for the model is cut.
    """
    task = task.in_format(format)
    encoder = Encoder(loaded, format)
    requests = render_all(task, examples, format, loaded.tokenizer)
    harness = build_harness_task(task, examples, requests, format)
    with quiet_harness():
        harness.build_all_requests(limit=None, rank=0, world_size=1)
    found: list[SentRequest] = []
    delimiter = harness.config.target_delimiter
    by_doc: dict[int, list[tuple[str, str]]] = {}
    for instance in harness.instances:
        by_doc.setdefault(instance.doc_id, []).append(instance.args)
    for doc_id, example in enumerate(examples):
        args = by_doc[doc_id]
        if task.kind == "choice":
            assert example.gold is not None
            context, continuation = args[example.gold]
            # As scored: white space at the context's end moves over to the continuation.
            prompt, rest = encoder.pair(context, continuation)
            decoder = rest if encoder.encoder_decoder else None
            found.append(SentRequest(context, delimiter, prompt, prompt + rest, decoder))
        else:
            context = args[0][0]
            prompt = encoder.prompt(context)
            answer = delimiter + format.write(task.target(example))
            if encoder.encoder_decoder:
                _, rest = encoder.pair(context, answer)
                found.append(SentRequest(context, delimiter, prompt, prompt + rest, rest))
                continue
            joint = encoder.prompt(context + answer)
            found.append(SentRequest(context, delimiter, prompt, joint))
    return found
