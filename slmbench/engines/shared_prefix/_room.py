"""How much is computed at once: what memory holds, and less if it turns out to hold less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from slmbench.engines.shared_prefix._probe import Ability, ability_of
from slmbench.errors import SlmbenchError, UsageError
from slmbench.machine import available_bytes, give_back_freed, is_out_of_memory, resident_bytes
from slmbench.models import adapter_of, core_model
from slmbench.values import Model

T = TypeVar("T")
AUTO_ROWS = 64
SHARE = 0.5
"""Of what is free, how much an automatic batch may take: the rest is for what can't be foreseen."""
PASS_TOKENS_CPU, PASS_TOKENS_GPU = 2048, 16_384
"""Tokens of a pass at most: more make a pass longer, and nothing faster."""
DECODED_ROWS_CPU, DECODED_ROWS_GPU = 128, 512
"""Rows that are decoded at once, at most."""


class Room:
    """What a model may take. batch: rows of plain batching whose memory it may use, `auto` for what is free."""

    def __init__(self, model: Model, batch: int | str, kv_budget_bytes: float | None) -> None:
        """Raises UsageError for a budget that is none."""
        if kv_budget_bytes is not None and not 0 <= kv_budget_bytes < math.inf:
            raise UsageError(f"kv_budget_bytes is {kv_budget_bytes}; give a number from 0 on")
        self.model = model
        self.batch = batch
        self.kv_budget_bytes = kv_budget_bytes
        self.halved = 0
        """How many times memory ran out: as many times is done half as much at once from then on."""
        self.computed_rows: int | None = None
        self._tried: tuple[str, Ability] | None = None

    @property
    def ability(self) -> Ability:
        """What this model can take, tried on it once; with another adapter it is tried again."""
        which = f"{adapter_of(self.model)} {getattr(self.model, 'active_adapters', None)}"
        if self._tried is None or self._tried[0] != which:
            self._tried = (which, ability_of(self.model))
        return self._tried[1]

    @property
    def on_cpu(self) -> bool:
        """Whether the model is in the machine's own memory."""
        return bool(core_model(self.model).get_input_embeddings().weight.device.type == "cpu")

    def rows(self, longest: int) -> int:
        """How many rows of so many tokens HFLM would compute at once."""
        if self.batch == "auto":
            found = automatic_batch(core_model(self.model), longest, self.ability.token_bytes)
        else:
            found = int(self.batch)
        self.computed_rows = max(1, found >> self.halved)
        return self.computed_rows

    def pass_tokens(self, rows: int, longest: int) -> int:
        """How many tokens are computed in one pass."""
        most = PASS_TOKENS_CPU if self.on_cpu else PASS_TOKENS_GPU
        return max(1, min(rows * longest, most >> self.halved))

    def decoded_rows(self) -> int:
        """How many rows are decoded at once, at most."""
        return max(1, (DECODED_ROWS_CPU if self.on_cpu else DECODED_ROWS_GPU) >> self.halved)

    def context_tokens(self, rows: int, longest: int) -> int:
        """How many tokens' keys and values may be held for others to share."""
        if self.kv_budget_bytes is None:
            return rows * longest
        return int(self.kv_budget_bytes // max(1, self.ability.token_bytes))

    def run(
        self,
        todo: Sequence[int],
        longest: int,
        compute: Callable[[Sequence[int], int], Iterator[tuple[int, T]]],
    ) -> Iterator[tuple[int, T]]:
        """What `compute` makes of each of `todo`, once; after memory ran out it goes on with half as much at once.

        longest: tokens of a row. compute: (what is left, rows at once) -> (which, result), one after another. Raises
        SlmbenchError if not even one row fits.
        """
        left = list(todo)
        while left:
            rows = self.rows(longest)
            done: set[int] = set()
            try:
                for which, result in compute(left, rows):
                    done.add(which)
                    yield which, result
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if rows <= 1:
                    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise SlmbenchError(
                        "memory ran out with a single row; take a smaller model or a narrower dtype, free some memory, "
                        f"or shorten the prompts ({said[:120]})"
                    ) from error
                self.halved += 1
            # Outside the handler, whose traceback holds on to what was too large.
            left = [which for which in left if which not in done]
            give_back_freed()


def automatic_batch(core: Model, longest: int, token_bytes: int) -> int:
    """Rows of `longest` tokens that fit into half of the memory that is free, by what plain batching would take.

    On a CPU, what is free beside this process as it is now; a container's limit counts.
    """
    config = core.config.get_text_config()
    weight = core.get_input_embeddings().weight
    free = available_bytes(weight.device.type)
    if free is None:
        return AUTO_ROWS
    if weight.device.type == "cpu":
        free -= resident_bytes()
    hidden = int(getattr(config, "hidden_size", 0) or config.d_model)
    wide = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
    # Of one layer at a time, activations; of all, keys and values; logits and their float32 logarithms.
    a_token: int = token_bytes + (8 * hidden + 3 * wide) * weight.element_size() + 8 * int(config.vocab_size)
    return max(1, min(AUTO_ROWS, int(SHARE * free) // max(1, a_token * longest)))
