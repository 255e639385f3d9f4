"""A server that was met: which interface it is asked through, and what is known of it."""

from __future__ import annotations

from slmbench.engines.serving._client import ServerClient
from slmbench.engines.serving._dialects import Dialect
from slmbench.values import Tokenizer

IDS, TEXT = "ids", "text"
"""How a prompt to be scored is sent."""


class ServerLink:
    """adds_bos: whether the server puts BOS before a prompt. window: in tokens, as it says; None if it doesn't.

    scoring: how prompts are sent whose log-probabilities come back right, None if none do. drops: how many of a
    prompt's first tokens it doesn't list then.
    """

    def __init__(
        self, client: ServerClient, dialect: Dialect, *, adds_bos: bool, window: int | None, told: tuple[str, ...] = ()
    ) -> None:
        self.client = client
        self.dialect = dialect
        self.adds_bos = adds_bos
        self.window = window
        self.told = told
        self.scoring: str | None = None
        self.drops = 0

    def close(self) -> None:
        """Nothing is to be ended: the server is somebody else's, and each call ends its own connections."""

    def sent(self, tokenizer: Tokenizer, text: str, ids: list[int]) -> tuple[str, int]:
        """(a prompt as it is sent, how many tokens the server should read of it). ids: of the whole prompt.

        BOS is in the text if the server puts none there itself, and isn't if it does.
        """
        bos, number = tokenizer.bos_token, tokenizer.bos_token_id
        begins = number is not None and ids[:1] == [number]
        bare = text.removeprefix(bos) if bos and begins else text
        if self.adds_bos:
            return bare, len(ids) + (not begins)
        return (bos + bare if bos and begins else bare), len(ids)
