"""lm-eval's HFLM, held to what it is asked: ids that are given, and texts that no file of the model's changes."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from slmbench.engines.encoder_decoder import decode, encoder_tokens, ties_left_alone
from slmbench.engines.generation_config import end_ids, tamed
from slmbench.errors import SlmbenchError
from slmbench.models import LoadedModel, core_model
from slmbench.values import JsonObject, Tensor

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM


class Ended(NamedTuple):
    """How a row of a batch of texts came out. text: its prompt. reason: `eos`, `stop` or `length`."""

    text: str
    tokens_out: int
    reason: str


def hflm_over(loaded: LoadedModel, rows: int | str) -> HFLM:
    """HFLM over a loaded model. rows: of a batch."""
    encoder_decoder = loaded.architecture == "seq2seq"
    made: Any = hflm_class()(
        pretrained=loaded.model,
        backend="seq2seq" if encoder_decoder else "default",
        tokenizer=loaded.tokenizer,
        max_length=encoder_tokens(loaded) if encoder_decoder else None,
        batch_size=rows,
    )
    made.lengths_as_asked = True
    return made


def refuse_nan(ids: Tensor, logits: Tensor) -> Tensor:
    """The logits as they are. ids: (batch, seq); logits: (batch, vocab). Raises SlmbenchError if they are NaN.

    `generate` would choose the token 0 of each, and a broken model's text is scored as a poor one's.
    """
    if bool(logits.isnan().any()) or not bool(logits.isfinite().any(-1).all()):
        raise SlmbenchError(
            "the model computes NaN or infinity, so no token can be chosen: its weights or its adapter's are such, or "
            f"{str(logits.dtype).removeprefix('torch.')} is too narrow for it"
        )
    return logits


@lru_cache(maxsize=1)
def hflm_class() -> type[HFLM]:
    """`GivenHFLM`; made when it is first asked for, as lm_eval and torch take seconds to import."""
    import logging

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import torch
    from lm_eval.models.huggingface import HFLM

    class GivenHFLM(HFLM):
        """HFLM; texts whose ids are in `given` are sent as these, and `ended` tells how each text of a batch ended.

        What a model's `generation_config.json` says doesn't change its greedy texts.
        """

        def __init__(self, pretrained: object, *args: object, **kwargs: object) -> None:
            # A half-precision log-softmax over a vocabulary loses a tenth of a nat in twenty tokens.
            kwargs.setdefault("softmax_dtype", "float32")
            self.given: dict[str, list[int]] = {}
            self.ended: list[Ended] = []
            self.lengths_as_asked = False
            """Whether an encoder-decoder writes at most what it is asked for: HFLM adds the length of its prompt."""
            self._texts: list[str] = []
            loaded = not isinstance(pretrained, str)
            with ties_left_alone(pretrained) if loaded else contextlib.nullcontext():
                super().__init__(pretrained, *args, **kwargs)

        def tok_encode(self, string: str, *args: object, **kwargs: object) -> Tensor:
            """The ids of a text, those that were given if there are such."""
            if string in self.given:
                return self.given[string]
            return super().tok_encode(string, *args, **kwargs)

        def tok_batch_encode(
            self,
            strings: list[str],
            padding_side: str = "left",
            left_truncate_len: int | None = None,
            truncation: bool = False,
        ) -> Tensor:
            """(ids, mask), each (batch, seq)."""
            self._texts = list(strings)
            if not set(strings) <= self.given.keys():
                return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
            rows = [self.given[string][-(left_truncate_len or 0) :] for string in strings]
            width = max(map(len, rows))
            # With learnt positions (BART), padding before an encoder's text would move it.
            before = padding_side == "left" and self.backend != "seq2seq"
            ids = torch.full((len(rows), width), self.tokenizer.pad_token_id, dtype=torch.long)  # (batch, seq)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for i, row in enumerate(rows):
                where = slice(width - len(row), width) if before else slice(0, len(row))
                ids[i, where] = torch.tensor(row)
                mask[i, where] = 1
            return ids, mask

        def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: object) -> Tensor:
            core = core_model(self.model)
            kwargs["logits_processor"] = [refuse_nan]
            # peft's wrapper has a config of its own.
            with tamed([self.model, core], sampled=bool(kwargs.get("do_sample"))):
                if self.backend == "seq2seq" and self.lengths_as_asked:
                    most = max_length - context.shape[1]
                    made = decode(self.model, self.tokenizer, context, most, stop, kwargs)
                else:
                    made = self._generate_unpadded(context, max_length, stop, kwargs)
            # (batch, seq); before the text stands the prompt, or the decoder's start token.
            written = made[:, 1 if self.backend == "seq2seq" else context.shape[1] :]
            ends = end_ids(core, self.tokenizer)
            for text, row in zip(self._texts, written.tolist(), strict=True):
                at = next((at for at, token in enumerate(row) if token in ends), None)
                said = self.tok_decode(row if at is None else row[:at])
                cut = any(ending and ending in said for ending in stop)
                reason = "stop" if cut else "eos" if at is not None else "length"
                self.ended.append(Ended(text, len(row) if at is None else at + 1, reason))
            return made

        def _generate_unpadded(self, context: Tensor, max_length: int, stop: list[str], kwargs: JsonObject) -> Tensor:
            """HFLM's texts; no padding stands between a prompt and tokens that an adapter puts before it.

            peft puts such tokens before the padding and drops the positions, so that a padded row would be another
            prompt.
            """
            active = getattr(self.model, "active_peft_config", None)
            mask = kwargs.get("attention_mask")
            if mask is None or not getattr(active, "is_prompt_learning", False):
                return super()._model_generate(context, max_length, stop, **kwargs)
            pads = (mask == 0).sum(-1).tolist()
            parts: dict[int, Tensor] = {}
            for pad in sorted(set(pads)):
                rows = torch.tensor([row for row, its in enumerate(pads) if its == pad], device=context.device)
                own = {**kwargs, "attention_mask": mask[rows, pad:]}
                made = super()._model_generate(context[rows, pad:], max_length - pad, stop, **own)
                for row, ids in zip(rows.tolist(), made, strict=True):
                    parts[row] = torch.cat([context[row, :pad], ids])
            width = max(len(ids) for ids in parts.values())
            filler = self.tokenizer.pad_token_id
            filled = [
                torch.nn.functional.pad(ids, (0, width - len(ids)), value=filler) for _, ids in sorted(parts.items())
            ]
            return torch.stack(filled)

    return GivenHFLM
