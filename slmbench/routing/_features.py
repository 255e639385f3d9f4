"""What the base's own layers make of a text, with no adapter on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from slmbench.errors import UsageError
from slmbench.models import LoadedModel, core_model
from slmbench.routing._heads import Arrays
from slmbench.values import Array, Model, Tensor

MAX_TOKENS = 64
"""Of a text that are read: a request says early what it is about, and time grows with the tokens."""
_ROWS = 32
_CHARS_A_TOKEN = 40


class _Reached(Exception):
    """The layer that was wanted has computed; the layers above it needn't."""


class BaseFeatures:
    """Reads texts through a base: the encoder of an encoder-decoder, the whole of another model.

    keep: whether what was computed is kept, for several heads that are fitted on the same texts.
    """

    def __init__(self, loaded: LoadedModel, *, keep: bool = False) -> None:
        self.loaded = loaded
        self._kept: dict[tuple[str, int], Array] | None = {} if keep else None

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(_blocks(self.loaded.model))

    @property
    def width(self) -> int:
        """Of a hidden state."""
        return int(self.loaded.model.get_input_embeddings().weight.shape[1])

    def means(self, texts: Sequence[str], layer: int) -> Array:
        """The mean of a text's hidden states behind a layer, 1 being the first: (texts, width), float32.

        The first token of a causal model is left out where there is another: whatever it is, its state is the same
        giant one, and would make the mean a measure of length. An empty text has zeros.
        """
        import numpy as np

        kept = {} if self._kept is None else self._kept
        todo = [text for text in dict.fromkeys(texts) if (text, layer) not in kept]
        kept |= {(text, layer): mean for text, mean in zip(todo, self._computed(todo, layer), strict=True)}
        return np.stack([kept[text, layer] for text in texts])

    def _computed(self, texts: Sequence[str], layer: int) -> list[Array]:
        import torch

        tokens = self.tokens(texts)
        found: list[Array] = [torch.zeros(self.width).numpy() for _ in texts]
        for numbers, ids, there in self._batches(tokens):
            states: Tensor = self._states(ids, there, layer).float()  # (rows, tokens, width)
            means = torch.einsum("rt,rtw->rw", self._shares(there), states).cpu().numpy()
            for number, mean in zip(numbers, means, strict=True):
                found[number] = mean
        return found

    def has(self, module: str) -> bool:
        """Whether a linear layer of this name reads texts: one of a decoder behind an encoder doesn't."""
        return module in self._named()

    def strengths(self, texts: Sequence[str], directions: Arrays) -> Array:
        """How far a text's states lie along directions: (texts, directions), float64.

        directions: `key:layer` -> (inputs,), a vector in the space of a linear layer's inputs. The mean of |x v| over
        the text's tokens, without the first as in `means`. Raises UsageError for a layer that isn't there, or has
        inputs of another size. An empty text has zeros.
        """
        import numpy as np
        import torch

        of: dict[str, list[int]] = {}
        for number, key in enumerate(directions):
            of.setdefault(key.partition(":")[2], []).append(number)
        modules, vectors = self._named(), list(directions.values())
        device = next(self.loaded.model.parameters()).device
        found = np.zeros((len(texts), len(directions)))
        shares: list[Tensor] = []
        rows: list[int] = []

        def watch(numbers: list[int], along: Tensor) -> Callable[..., None]:
            def note(_: Model, given: tuple[Tensor, ...]) -> None:
                lengths = (given[0].float() @ along).abs()  # (rows, tokens, directions)
                found[np.ix_(rows, numbers)] = torch.einsum("rt,rtd->rd", shares[0], lengths).cpu().numpy()

            return note

        handles = []
        try:
            for name, numbers in of.items():
                module = modules.get(name)
                wide = np.stack([vectors[number] for number in numbers], axis=1)
                if module is None or _inputs(module) != len(wide):
                    has = "no such layer" if module is None else f"{_inputs(module)} inputs there"
                    raise UsageError(
                        f"a direction for {name} of {len(wide)} inputs doesn't fit {self.loaded.source.name!r}, which "
                        f"has {has}"
                    )
                along = torch.tensor(wide, dtype=torch.float32, device=device)
                handles.append(module.register_forward_pre_hook(watch(numbers, along)))
            for some, ids, there in self._batches(self.tokens(texts)):
                rows[:], shares[:] = some, [self._shares(there)]
                self.run(ids, there)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _named(self) -> dict[str, Model]:
        """Name -> linear layer, as the whole model calls it, of those that read texts."""
        read = set(map(id, _stack(self.loaded.model).modules()))
        found = core_model(self.loaded.model).named_modules()
        return {name: one for name, one in found if id(one) in read and _inputs(one)}

    def _shares(self, there: Tensor) -> Tensor:
        """The weight of each token in a text's mean: (rows, tokens), float32."""
        counted = there.clone()
        if not self.loaded.model.config.is_encoder_decoder and counted.shape[1] > 1:
            counted[:, 0] &= ~counted[:, 1:].any(dim=1)
        return counted.float() / counted.sum(dim=1, keepdim=True)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The first tokens of each text, as the base's tokenizer has them, with no template."""
        if not texts:
            return []
        cut = [text[: MAX_TOKENS * _CHARS_A_TOKEN] for text in texts]
        ids: list[list[int]] = self.loaded.tokenizer(cut, padding=False, truncation=False)["input_ids"]
        return [one[:MAX_TOKENS] for one in ids]

    def _batches(self, tokens: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(numbers of texts, their ids (rows, tokens), where these are not padding) of those that have tokens."""
        import torch

        device = next(self.loaded.model.parameters()).device
        order = sorted((number for number, ids in enumerate(tokens) if ids), key=lambda number: len(tokens[number]))
        for start in range(0, len(order), _ROWS):
            numbers = order[start : start + _ROWS]
            longest = len(tokens[numbers[-1]])
            padding = self.loaded.tokenizer.pad_token_id or 0
            rows = [[*tokens[number], *[padding] * (longest - len(tokens[number]))] for number in numbers]
            lengths = torch.tensor([len(tokens[number]) for number in numbers])
            there = torch.arange(longest)[None] < lengths[:, None]
            yield numbers, torch.tensor(rows, device=device), there.to(device)

    def _states(self, ids: Tensor, there: Tensor, layer: int) -> Tensor:
        """The output of a layer: (rows, tokens, width). Those above it are not computed."""
        states: list[Tensor] = []

        def keep(_: Model, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        handle = _blocks(self.loaded.model)[layer - 1].register_forward_hook(keep)
        try:
            self.run(ids, there)
        except _Reached:
            pass
        finally:
            handle.remove()
        return states[0]

    def run(self, ids: Tensor, there: Tensor) -> None:
        """One pass without gradients, of the encoder alone where there is one."""
        import torch

        stack, options = _stack(self.loaded.model), {}
        if not self.loaded.model.config.is_encoder_decoder:
            options = {"use_cache": False}
        with torch.no_grad():
            stack(input_ids=ids, attention_mask=there.long(), **options)


def _stack(model: Model) -> Model:
    """The layers with what is below them: no head."""
    core = core_model(model)
    return core.get_encoder() if core.config.is_encoder_decoder else core.base_model


def _blocks(model: Model) -> Model:
    """The layers, in order."""
    import torch

    stack = _stack(model)
    lists = [one for one in stack.modules() if isinstance(one, torch.nn.ModuleList) and len(one)]
    wanted = getattr(stack.config.get_text_config(), "num_hidden_layers", None)
    return next((one for one in lists if len(one) == wanted), lists[0])


def _inputs(module: Model) -> int:
    """How many numbers a linear layer reads; 0 for what is none."""
    if isinstance(inputs := getattr(module, "in_features", None), int):
        return inputs
    # transformers' Conv1D, whose weight is (inputs, outputs).
    return int(module.weight.shape[0]) if type(module).__name__ == "Conv1D" else 0
