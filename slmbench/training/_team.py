"""The processes that make one training together, as each of them sees them."""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import frozen

from slmbench.errors import SlmbenchError

T = TypeVar("T")


@frozen
class Team:
    """This process and those beside it. rank: from 0, who alone writes and speaks; size: how many they are.

    Every method that asks the others is called by all of them, in the same order; of one process it asks nobody.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def gathered(self, value: T) -> list[T]:
        """What each of them has, by rank. Raises RuntimeError if one of them is gone."""
        if self.size == 1:
            return [value]
        import torch.distributed

        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    def shared(self, value: T) -> T:
        """What the first of them has."""
        return self.gathered(value)[0]

    def agree(self, what: str, value: object) -> None:
        """Raises SlmbenchError, in all of them, if what they have isn't the same."""
        found = self.gathered(value)
        odd = [rank for rank, other in enumerate(found) if other != found[0]]
        if odd:
            raise SlmbenchError(
                f"process {odd[0]} of {self.size} has another {what} than process 0: they don't see the same files, or "
                "these changed meanwhile; run the same command again"
            )
