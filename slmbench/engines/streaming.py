"""One text at a time, each piece of it as soon as it is there, as a person reads it.

Which token comes next and when a text is over is decided by the functions that evaluation's engine uses. What the model
has read stays in memory, so that the next prompt costs no more than what is new in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, frozen

from slmbench.engines.encoder_decoder import NO_LIMIT, encoder_tokens
from slmbench.engines.generation_config import DEFAULT_TOP_K, NEUTRAL, end_ids, surprises_of
from slmbench.engines.sampling import WARPERS, Answer, SamplingSettings, is_over, next_tokens, stream_of
from slmbench.errors import SlmbenchError
from slmbench.models import LoadedModel, core_model
from slmbench.values import Model, Tensor

_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
_CUT = "\ufffd"
"""What a tokenizer writes for the first bytes of a character whose others are still to come."""


@frozen
class Wish:
    """How a text is wanted. temperature: 0 for the likeliest token each time. seed, turn: what its draws depend on."""

    most_tokens: int
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    turn: int = 0


@define(eq=False)
class TextSoFar:
    """A text as far as it is written. read: tokens of the prompt that were computed, the others were at hand.

    reason: eos, stop or length; '' while it is being written, and where it was left off.
    """

    text: str = ""
    tokens_in: int = 0
    read: int = 0
    tokens_out: int = 0
    reason: str = ""


def window_of(loaded: LoadedModel) -> int:
    """How many tokens a prompt and its answer may have together; of an encoder-decoder, the prompt alone."""
    if loaded.architecture == "seq2seq":
        return encoder_tokens(loaded)
    config = core_model(loaded.model).config.get_text_config()
    said = next((getattr(config, name, None) for name in _LENGTHS if getattr(config, name, None)), None)
    declared = loaded.source.context_tokens
    known = [int(tokens) for tokens in (said, declared) if tokens]
    if not known and loaded.tokenizer.model_max_length < NO_LIMIT:
        known = [int(loaded.tokenizer.model_max_length)]
    # Tokens that an adapter puts before a prompt take positions too.
    active = getattr(loaded.model, "active_peft_config", None)
    return min(known, default=2048) - (getattr(active, "num_virtual_tokens", 0) or 0)


class StreamingWriter:
    """Writes texts. Keys and values of the last prompt and its answer stay, for one that begins alike."""

    def __init__(self) -> None:
        self._whose: object = None
        self._tokens: list[int] = []
        """Those that the cache holds keys and values of."""
        self._cache: Any = None

    def write(self, loaded: LoadedModel, ids: Sequence[int], wish: Wish, written: TextSoFar) -> Iterator[str]:
        """The pieces of the text that follows a prompt; `written` holds what there is of it so far.

        ids: of the whole prompt, at most `window_of`. A stop string ends the text and is no part of it; neither is
        white space at either end. Raises SlmbenchError if the model computes NaN.
        """
        core, tokenizer = core_model(loaded.model), loaded.tokenizer
        ends = end_ids(core, tokenizer)
        draws = stream_of(wish.seed, f"turn {wish.turn}", tokenizer.decode(list(ids)), 0)
        answer = Answer(None, wish.most_tokens, wish.stops, _settings(core, wish), draws)
        written.tokens_in = len(ids)
        step = self._steps(loaded, list(ids), written)
        while not answer.reason:
            logits = step(answer.tokens)  # (1, vocab), float32
            if not bool(logits.isfinite().any()) or bool(logits.isnan().any()):
                who = f" with adapter {loaded.adapter.name!r}" if loaded.adapter else ""
                raise SlmbenchError(
                    f"{loaded.source.name!r}{who} computes NaN or infinity, so no token can be chosen; its weights or "
                    f"its adapter's are damaged, or {loaded.dtype} is too narrow for it"
                )
            forced = getattr(core.generation_config, "forced_bos_token_id", None) if not answer.tokens else None
            answer.tokens += next_tokens(logits, [answer]) if forced is None else [int(forced)]
            written.tokens_out = len(answer.tokens)
            is_over(answer, ends, tokenizer)
            shown = written.text
            written.text = _text(answer, tokenizer, shown)
            written.reason = answer.reason
            if len(written.text) > len(shown):
                yield written.text[len(shown) :]

    def _steps(self, loaded: LoadedModel, ids: list[int], written: TextSoFar) -> Any:
        """A function of the tokens of the answer so far, which returns the next one's logits."""
        import torch

        model, core = loaded.model, core_model(loaded.model)
        device = core.get_input_embeddings().weight.device
        accepted = inspect.signature(core.forward).parameters
        active = getattr(model, "active_peft_config", None)
        # Tokens that stand before every pass, and states of other kinds, are computed again with each token.
        kept = "past_key_values" in accepted and not getattr(active, "is_prompt_learning", False)

        def tensor(tokens: Sequence[int]) -> Tensor:
            return torch.tensor([list(tokens)], dtype=torch.long, device=device)  # (1, seq)

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def causal(said: Sequence[int]) -> Tensor:
            whole = [*ids, *said]
            known = self._known(loaded, whole, written) if kept else 0
            options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
            if kept:
                cache, self._cache = self._cache, None  # A pass that is broken off leaves half of one.
                options |= {"past_key_values": cache, "use_cache": True}
            out = model(input_ids=tensor(whole[known:]), **options)
            if kept:
                self._cache, self._tokens = out.past_key_values, whole
            if not said:
                written.read = len(whole) - known
            return out.logits[:, -1].float()

        state: dict[str, Any] = {}

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def encoder_decoder(said: Sequence[int]) -> Tensor:
            start = core.generation_config.decoder_start_token_id
            whole = [core.config.decoder_start_token_id if start is None else start, *said]
            written.read = len(ids)
            if not kept:
                return model(input_ids=tensor(ids), decoder_input_ids=tensor(whole)).logits[:, -1].float()
            if not state:
                state["encoder_outputs"] = core.get_encoder()(input_ids=tensor(ids))
            new = whole[-1:] if "past_key_values" in state else whole
            mask = torch.ones_like(tensor(ids))
            out = model(decoder_input_ids=tensor(new), attention_mask=mask, use_cache=True, **state)
            state["past_key_values"] = out.past_key_values
            return out.logits[:, -1].float()

        return encoder_decoder if loaded.architecture == "seq2seq" else causal

    def _known(self, loaded: LoadedModel, whole: Sequence[int], written: TextSoFar) -> int:
        """How many first tokens of `whole` the cache holds, and it holds no others."""
        whose = (loaded.weights_sha256, loaded.adapter.sha256 if loaded.adapter else None)
        if self._cache is None or whose != self._whose:
            self._whose, self._cache, self._tokens = whose, None, []
            return 0
        pairs = zip(self._tokens, whole[:-1], strict=False)
        same = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        same = min(len(self._tokens), len(whole) - 1) if same is None else same
        if same < len(self._tokens):
            if not same or not _can_be_cut(self._cache):
                self._cache, self._tokens = None, []
                return 0
            self._cache.crop(same - len(self._tokens))
        return same


def _can_be_cut(cache: Any) -> bool:
    """Whether its end can be taken off: of every layer it has all keys and values, and nothing else."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))


def _settings(core: Model, wish: Wish) -> SamplingSettings:
    """As evaluation draws: what the model's file says of drawing counts, but for the temperature."""
    if wish.temperature <= 0:
        return SamplingSettings()
    said = {name: value for name, value in surprises_of(core.generation_config, drawn=True).items() if name in WARPERS}
    values = {"top_k": DEFAULT_TOP_K} | said | {"temperature": wish.temperature}
    used = ((name, float(values[name])) for name in WARPERS if name in values)
    return SamplingSettings(True, tuple((name, value) for name, value in used if value not in NEUTRAL.get(name, ())))


def _text(answer: Answer, tokenizer: Any, shown: str) -> str:
    """What can be read of an answer for good; of one that is over, all of it."""
    over = answer.reason
    tokens = answer.tokens[:-1] if over == "eos" else answer.tokens
    text = str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()
    cuts = [at for stop in answer.stops if (at := text.find(stop)) >= 0]
    if cuts:
        return text[: min(cuts)].rstrip() if len(text[: min(cuts)].rstrip()) >= len(shown) else shown
    if over:
        return text if text.startswith(shown) else shown + text[len(shown) :]
    text = text.rstrip(_CUT)
    for stop in answer.stops:  # Its beginning may be all there is of it so far.
        held = next((n for n in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:n])), 0)
        text = text[: len(text) - held] if held else text
    text = text.rstrip()  # White space waits for what follows it.
    return text if text.startswith(shown) else shown
