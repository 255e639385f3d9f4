"""An engine whose answers come from a server, each journaled as soon as it is there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from attrs import evolve

from slmbench.engines.generation_config import end_ids, surprises_of
from slmbench.engines.protocol import Item, ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import Wanted, check_prompt, name_of, wanted_by
from slmbench.engines.sampling import stream_of
from slmbench.engines.serving._client import Reply, ServerRequest
from slmbench.engines.serving._dialects import UNTOLD, TextWish, cut
from slmbench.engines.serving._link import ServerLink
from slmbench.engines.serving._scoring import read_scores, scored_body
from slmbench.errors import DataError, EngineError, SlmbenchError, UsageError
from slmbench.models import LoadedModel
from slmbench.values import Tokenizer

DEFAULT_TOKENS = 256
"""Of a text at most, if nothing is said: lm-eval's."""
KEPT = "answers before it are kept, and the same command goes on from there"
OTHER_TOKENS = "the server read another number of tokens than the tokenizer here makes of the prompt"
UNCOUNTED = "the server doesn't count the tokens of a text: counted by the tokenizer here"
NOT_ALL = "the server takes no top_k, min_p or repetition_penalty: drawn from all tokens"
_OF_ITEM = frozenset({400, 413, 422})
_LEAST_CONTEXT = 2048


class ServerBatches:
    """An engine: so many requests at a time are under way to a server that was met.

    loaded: of `meet`. seed: of drawn texts. latency: one after another, after one that warms up.
    """

    computed_rows: int | None = None
    vocabulary: int | None = None
    """What the served model has embeddings of isn't known here."""

    def __init__(self, loaded: LoadedModel, seed: int, *, latency: bool = False) -> None:
        link = getattr(loaded.model, "reader", None)
        if not isinstance(link, ServerLink):
            raise UsageError(
                f"{loaded.source.name!r} was loaded for another engine, and engine 'server' asks a server; give the "
                "model by its name, folder or hub id, or take --engine shared"
            )
        self.loaded = loaded
        self.link = link
        self.seed = seed
        self.latency = latency
        self._ends = tuple(sorted(end_ids(loaded.model, loaded.tokenizer)))
        self._surprises = surprises_of(loaded.model.generation_config, drawn=True)
        self._drops_blank = _drops_blank(loaded.tokenizer)
        self._context = 0

    @property
    def max_length(self) -> int:
        """Two tokens less than the window: a server reads a scored text's last token, too, and writes one more."""
        from lm_eval.models.utils import resolve_max_length

        own = int(resolve_max_length(self.loaded.model.config, self.loaded.tokenizer))
        known = [own, self.loaded.source.context_tokens, self.link.window]
        return max(1, min(one for one in known if one) - 2)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), in the order in which they come."""
        link, tokenizer, path = self.link, self.loaded.tokenizer, self.link.dialect.path
        if link.scoring is None:
            raise UsageError(f"{link.client.address.told()} wasn't tried for log-probabilities of prompts")
        wholes = [[*one.context, *one.continuation][-(self.max_length + 1) :] for one in requests]
        asked = [ServerRequest(path, scored_body(link, tokenizer, ids, link.scoring)) for ids in wholes]
        for at, reply, share_ms in self._asked(requests, asked, asked[:1]):
            with _naming(requests[at].item):
                n_last = len(requests[at].continuation)
                where = link.client.address.told(path)
                value, greedy = read_scores(reply, len(wholes[at]), n_last, link.drops, where)
            yield at, ScoreAnswer(value, greedy, reply.took_ms, share_ms)

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), in the order in which they come."""
        wanted = [self._wanted(one) for one in requests]
        sent = [self._sent(one, how) for one, how in zip(requests, wanted, strict=True)]
        needed = max((n + how.most_tokens for (_, n), how in zip(sent, wanted, strict=True)), default=0)
        # A power of two, so that a few tokens more or less are the same to a server that loads a model for it.
        self._context = max(self._context, _LEAST_CONTEXT, 1 << (needed + 1).bit_length())
        wishes = [self._wish(one, how, text) for one, how, (text, _) in zip(requests, wanted, sent, strict=True)]
        dialect = self.link.dialect
        asked = [ServerRequest(dialect.path, dialect.body(one)) for one in wishes]
        short = [evolve(one, wanted=evolve(one.wanted, most_tokens=1)) for one in wishes[:1]]
        warm = [ServerRequest(dialect.path, dialect.body(one)) for one in short]
        for at, reply, share_ms in self._asked(requests, asked, warm):
            with _naming(requests[at].item):
                text, tokens, reason, told = self._read(wishes[at], reply, sent[at][1])
            yield at, WriteAnswer(text, tokens, reason, reply.took_ms, share_ms, told)

    def _read(self, wish: TextWish, reply: Reply, n_prompt: int) -> tuple[str, int, str, str]:
        """(text, tokens, reason, what a reader should know). n_prompt: tokens that the server should have read."""
        dialect = self.link.dialect
        found = dialect.text(wish, reply, self.link.client.address.told(dialect.path))
        text = cut(found.text, wish.wanted.stops)
        is_cut = text != found.text
        text = text[1:] if self._drops_blank and text.startswith(" ") else text
        tokens = found.tokens_out
        if tokens is None:
            tokens = len(self.loaded.tokenizer.encode(text, add_special_tokens=False))
        told = [
            UNTOLD if found.untold and not is_cut else "",
            OTHER_TOKENS if found.tokens_in not in (None, n_prompt) else "",
            UNCOUNTED if found.tokens_out is None else "",
            "" if dialect.asks_all(wish.wanted) else NOT_ALL,
        ]
        return text, tokens, "stop" if is_cut else found.reason, "; ".join(filter(None, told))

    def _asked(
        self,
        requests: Sequence[ScoreRequest] | Sequence[WriteRequest],
        asked: Sequence[ServerRequest],
        warm: Sequence[ServerRequest],
    ) -> Iterator[tuple[int, Reply, float]]:
        """(index of a request, its reply, its part of the time). Raises DataError of a request that is refused.

        warm: what is asked before anything is timed.
        """
        for one in warm if self.latency else ():
            self.link.client.ask_one(one)
        before = time.perf_counter()
        with contextlib.closing(self.link.client.ask(asked)) as replies:
            for at, reply in replies:
                now = time.perf_counter()
                share_ms, before = (now - before) * 1000, now
                item = requests[at].item
                if isinstance(reply, SlmbenchError):
                    with _naming(item):
                        raise reply
                if reply.status in _OF_ITEM:
                    raise DataError(f"{name_of(item)}: the server refuses it: HTTP {reply.status} ({reply.said})")
                yield at, reply, share_ms

    def _wanted(self, request: WriteRequest) -> Wanted:
        where = name_of(request.item)
        wanted = wanted_by(where, request.kwargs, None, DEFAULT_TOKENS, self._surprises)
        if wanted.plain:
            raise UsageError(f"{where}: {wanted.plain}, which a server isn't asked for; take --engine hf")
        return wanted

    def _sent(self, request: WriteRequest, wanted: Wanted) -> tuple[str, int]:
        """(a prompt as it is sent, how many tokens that should be), cut from the left to what there is room for."""
        room = check_prompt(request, wanted.most_tokens, self) - self.link.adds_bos
        ids, text = list(request.prompt), request.text
        if len(ids) > room:
            ids = ids[-max(1, room) :]
            text = self.loaded.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self.link.sent(self.loaded.tokenizer, text, ids)

    def _wish(self, request: WriteRequest, wanted: Wanted, text: str) -> TextWish:
        tokenizer, seed = self.loaded.tokenizer, None
        special = {tokenizer.decode([one]): one for one in tokenizer.all_special_ids}
        # A special token is in no text that a server gives back.
        ends = {*self._ends, *(special[stop] for stop in wanted.stops if stop in special)}
        if wanted.settings.sampled:
            seed = stream_of(self.seed, str(request.item[1]), request.text, request.sample).getrandbits(31)
        wanted = evolve(wanted, stops=tuple(stop for stop in wanted.stops if stop not in special))
        return TextWish(text, wanted, seed, tuple(sorted(ends)), self._context)


@contextlib.contextmanager
def _naming(item: Item) -> Iterator[None]:
    """Names the item in a server's errors."""
    try:
        yield
    except EngineError as error:
        raise EngineError(f"{name_of(item)}: {error}; {KEPT}") from error


def _drops_blank(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer takes the blank before a text's first word away, as sentencepiece's do."""
    ids = tokenizer.encode("word", add_special_tokens=False)
    begins = str(tokenizer.convert_ids_to_tokens(ids)[0]).startswith("\u2581")
    return begins and not str(tokenizer.decode(ids)).startswith(" ")
