"""The token ids of lm-eval's texts: the format's one function, for whatever engine computes."""

from __future__ import annotations

from functools import lru_cache

from slmbench.errors import DataError
from slmbench.formats import Format, decoder_ids, pair_ids, prompt_ids
from slmbench.models import LoadedModel

Encoded = dict[tuple[str, str], tuple[list[int], list[int]]]
"""(context, continuation) -> the token ids of both."""


class Encoder:
    """Encodes what a task asks of a model. encoded: pairs that are known, of the same tokenizer and format; filled."""

    def __init__(self, loaded: LoadedModel, format: Format, encoded: Encoded | None = None) -> None:
        self.encoder_decoder = loaded.architecture == "seq2seq"
        self.tokenizer = loaded.tokenizer
        self._format = format
        self._pairs: Encoded = {} if encoded is None else encoded
        # A context comes again with each of its choices.
        self._ids = lru_cache(maxsize=64)(lambda text: tuple(prompt_ids(format, loaded.tokenizer, text)))

    def prompt(self, text: str) -> list[int]:
        """The ids of a prompt."""
        return list(self._ids(text))

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of a context and of what is scored after it. Raises DataError if there is nothing to score it after.

        A context without text is the tokenizer's BOS, or else its EOS, as in lm-eval.
        """
        if (context, continuation) not in self._pairs:  # Asked for by the journal's key, the engine and the record.
            self._pairs[context, continuation] = self._pair(context, continuation)
        return self._pairs[context, continuation]

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context == "":
            first = self.tokenizer.bos_token_id
            first = self.tokenizer.eos_token_id if first is None else first
            if first is None:
                raise DataError("its context is empty, and this tokenizer has neither BOS nor EOS for its place")
            rest = decoder_ids(self.tokenizer, continuation)
            return (rest[:1], rest[1:]) if rest[:1] == [first] else ([first], rest)
        if self.encoder_decoder:
            # White space at the context's end stays there, as in generation: the decoder begins a text of its own.
            return self.prompt(context), decoder_ids(self.tokenizer, continuation)
        if self._format.special_tokens is False:
            # A chat turn opens with a line break of the template's own. lm-eval would move it over to the answer.
            return pair_ids(self._format, self.tokenizer, context, continuation)
        # As lm-eval: white space at the context's end is scored with what continues it.
        bare = context.rstrip()
        ids = self.prompt(bare)
        return ids, self.prompt(context + continuation)[len(ids) :]
