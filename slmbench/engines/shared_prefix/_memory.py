"""How much is computed at once: what memory holds, and less where it turns out to hold less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from slmbench.errors import SlmbenchError
from slmbench.machine import available_bytes, give_back_freed, is_out_of_memory, resident_bytes
from slmbench.values import Model

AUTO_ROWS = 64
SHARE = 0.5
"""Of what is free, how much an automatic batch may take: the rest is for what can't be foreseen."""
PASS_TOKENS_CPU, PASS_TOKENS_GPU = 2048, 16_384
"""Tokens of a pass at most: more make a pass longer, and nothing faster."""
DECODED_ROWS_CPU, DECODED_ROWS_GPU = 128, 512
"""Rows that are decoded at once, at most."""


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
    a_token = token_bytes + (8 * hidden + 3 * wide) * weight.element_size() + 8 * int(config.vocab_size)
    return max(1, min(AUTO_ROWS, int(SHARE * free) // max(1, a_token * longest)))


class Halving:
    """Goes on with half as much at once after memory ran out, and keeps to it."""

    def __init__(self) -> None:
        self.times = 0

    def run(
        self,
        todo: Sequence[int],
        at_once: Callable[[int], int],
        compute: Callable[[Sequence[int], int], Iterator[list[tuple[int, Any]]]],
        take: Callable[[int, object], object],
    ) -> None:
        """Hands what `compute` makes of each of `todo` to `take`, once.

        at_once: how many times halved -> how many rows. compute: (what is left, rows at once) -> lists of (which,
        result), one list a batch. Raises SlmbenchError where not even one row fits.
        """
        left = list(todo)
        while left:
            rows = at_once(self.times)
            done: set[int] = set()
            try:
                for batch in compute(left, rows):
                    for which, result in batch:
                        done.add(which)
                        take(which, result)
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
                self.times += 1
            # Outside the handler, whose traceback holds on to what was too large.
            left = [which for which in left if which not in done]
            give_back_freed()
