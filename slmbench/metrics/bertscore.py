"""BERTScore: similarity of meaning by matching the words' vectors of two texts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache, partial

from slmbench.errors import OfflineError, UsageError
from slmbench.metrics._bert import BertEncoder, BertSettings, Embedding
from slmbench.metrics._scorer import Scorer, named, references_of
from slmbench.paths import shown
from slmbench.registry import metric
from slmbench.values import Example, Output

MODEL_VARIABLE = "SLMBENCH_BERTSCORE"
BASELINE_VARIABLE = "SLMBENCH_BERTSCORE_BASELINE"
DEFAULT_MODEL = "roberta-large:17"
PAIRS_AT_ONCE = 128
_STAND_IN: ContextVar[str | None] = ContextVar("slmbench_bertscore", default=None)


@contextlib.contextmanager
def bertscore_model(location: str) -> Iterator[None]:
    """Scorers that are loaded in the block use this model in place of the default; one that is set stays.

    location: as in SLMBENCH_BERTSCORE, which comes before it.
    """
    token = _STAND_IN.set(location)
    try:
        yield
    finally:
        _STAND_IN.reset(token)


def _asked() -> str:
    return os.environ.get(MODEL_VARIABLE, "").strip() or _STAND_IN.get() or DEFAULT_MODEL


def bertscore_asked() -> str:
    """The folder or hub id that the environment, or `bertscore_model`, asks for, without its layer."""
    return _parted(_asked())[0]


def _parted(asked: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.+?)(?::([0-9]{1,3}))?", asked, re.DOTALL)
    assert found is not None
    return found[1], int(found[2]) if found[2] else None


def bertscore_settings() -> BertSettings:
    """What the environment, or `bertscore_model`, asks for; looks for no weights and never fails.

    SLMBENCH_BERTSCORE: a local folder or a hub id, `:layer` after it; layer 0 are the embeddings below the first layer.
    Without a layer it is a folder's last one. Default: roberta-large, layer 17, as in bert_score for English.
    SLMBENCH_BERTSCORE_BASELINE: a file of bert_score's form (LAYER,P,R,F) to rescale by; none by default.
    """
    return BertSettings.of(*_parted(_asked()), os.environ.get(BASELINE_VARIABLE, "").strip() or None)


def bertscore(
    predictions: Sequence[str], references: Sequence[str], settings: BertSettings
) -> list[tuple[float, float, float]]:
    """(precision, recall, F1) of every prediction against the reference beside it, rescaled if there is a baseline.

    Greedy matching by cosine, without idf weights; the vectors of the classifier's and separator's tokens can be
    matched, but don't count themselves. Outer white space goes. Texts longer than the model's limit lose their end.
    A text without words isn't in bert_score's reach: it scores 0, for it says nothing of the other, and 1 if both
    have none, for then they are alike. Raises UsageError or OfflineError if the model can't be loaded. Source: Zhang
    et al. 2020, arXiv:1904.09675; bert_score 0.3.13, whose numbers these are, but for two things: padding is
    never matched, and texts for the tokenizers of RoBERTa and GPT-2 always get the space before them that bert_score
    asks for, and that transformers 5 forgets.
    """
    encoder = loaded(settings)
    scores: list[tuple[float, float, float]] = []
    pairs = list(zip(predictions, references, strict=True))
    # A chunk at a time: the vectors of a whole run would not fit into memory.
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        chunk = pairs[start : start + PAIRS_AT_ONCE]
        vectors = encoder.embeddings({text for pair in chunk for text in pair})
        scores += [_matched(vectors[got], vectors[gold]) for got, gold in chunk]
    baseline = settings.baseline()
    if baseline is None:
        return scores
    return [tuple((value - b) / (1 - b) for value, b in zip(triple, baseline, strict=True)) for triple in scores]  # type: ignore[misc]


def _matched(got: Embedding, gold: Embedding) -> tuple[float, float, float]:
    if not (got.counts.any() and gold.counts.any()):
        return (float(got.counts.any() == gold.counts.any()),) * 3
    if got.ids == gold.ids:
        # What rounding would make 0.9999999.
        return 1.0, 1.0, 1.0
    # (got's tokens, gold's tokens), float32
    similarity = got.vectors @ gold.vectors.T
    precision = float(similarity.max(dim=1).values[got.counts].mean())
    recall = float(similarity.max(dim=0).values[gold.counts].mean())
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


@lru_cache(maxsize=1)
def loaded(settings: BertSettings) -> BertEncoder:
    """The model of these settings, loaded once. Raises UsageError or OfflineError."""
    settings.check(f"{MODEL_VARIABLE}={_asked()}")
    try:
        return BertEncoder.load(settings)
    except UsageError:
        raise
    except Exception as error:
        # transformers raises nearly every class there is for a file that is missing or damaged.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        if settings.is_folder:
            raise UsageError(f"bertscore: the model in {shown(settings.location)} can't be loaded: {said}") from error
        layer = f":{settings.layer}"
        raise OfflineError(
            f"bertscore needs the model {settings.location!r}, which is neither in the local cache nor available from "
            f"the hub ({type(error).__name__}). Pull it on a connected machine with `hf download {settings.location} "
            f"--local-dir DIR` and set {MODEL_VARIABLE}=DIR{layer}, or leave bertscore out by naming the others with "
            "--metrics"
        ) from error


def _score_all(settings: BertSettings, items: Sequence[tuple[Example, Output]]) -> list[dict[str, float]]:
    golds = [references_of(example) for example, _ in items]
    outputs = [output.text for (_, output), texts in zip(items, golds, strict=True) for _ in texts]
    scores = iter(bertscore(outputs, [text for texts in golds for text in texts], settings))
    return [{settings.value_name: max(next(scores)[2] for _ in texts)} for texts in golds]


def _score(settings: BertSettings, example: Example, output: Output) -> dict[str, float]:
    scores: dict[str, float] = named(example, _score_all, settings, [(example, output)])[0]
    return scores


def _remarks(settings: BertSettings, example: Example, output: Output) -> dict[str, int]:
    encoder = loaded(settings)
    cut = any(encoder.is_truncated(text) for text in (output.text, *references_of(example)))
    return {"bertscore truncated": 1} if cut else {}


def _ready(settings: BertSettings) -> None:
    loaded(settings)
    settings.baseline()


def _weights_sha256(settings: BertSettings) -> str:
    return loaded(settings).weights_sha256()


@lru_cache(maxsize=8)
def _scorer_of(settings: BertSettings) -> Scorer:
    return Scorer(
        name="bertscore",
        version="1",
        kind="text",
        values=(settings.value_name,),
        score=partial(_score, settings),
        description="Similarity of meaning by BERTScore F1; SLMBENCH_BERTSCORE names the model.",
        citation="Zhang et al. 2020, BERTScore: Evaluating Text Generation with BERT, arXiv:1904.09675",
        binary=False,
        range=None,  # A cosine, and with a baseline whatever that makes of it.
        score_all=partial(_score_all, settings),
        remarks=partial(_remarks, settings),
        ready=partial(_ready, settings),
        weights_sha256=partial(_weights_sha256, settings),
    )


@metric(
    "bertscore",
    summary="Similarity of meaning by BERTScore F1; SLMBENCH_BERTSCORE names the model.",
    version="1",
    factory=True,
)
def scorer() -> Scorer:
    """The scorer of the model that the environment names now; its one value's name says model, layer and baseline."""
    return _scorer_of(bertscore_settings())
