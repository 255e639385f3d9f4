"""The frozen values that travel through slmbench, and the names of those that other libraries bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen

# Other libraries are imported only if they are needed; what is taken from them has a name here.
JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as a file or another library has it: values of any kind, looked at where they are used."""
Backend: TypeAlias = Any
"""A tokenizer of `tokenizers`, or a part of one."""
Tensor: TypeAlias = Any
"""A torch tensor, or several; the shape stands where it appears."""
Array: TypeAlias = Any
"""A numpy array; the shape stands where it appears."""
Model: TypeAlias = Any
"""A torch module: a transformers model, one with adapters around it, or a part of it."""
Config: TypeAlias = Any
"""A transformers config: its attributes are those of its family."""


class Tokenizer(Protocol):
    """A transformers tokenizer: what is asked of one here."""

    name_or_path: str
    chat_template: str | None
    backend_tokenizer: Any
    model_max_length: int
    padding_side: str
    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    pad_token: str | None
    pad_token_id: int | None
    sep_token_id: int | None
    cls_token_id: int | None
    unk_token_id: int | None
    special_tokens_map: Mapping[str, Any]
    all_special_ids: Sequence[int]
    is_fast: bool
    _add_eos_token: bool

    def __len__(self) -> int: ...
    def __call__(self, text: str | Sequence[str], **options: object) -> JsonObject: ...
    def encode(self, text: str, **options: object) -> list[int]: ...
    def decode(self, token_ids: Tensor | Sequence[int], **options: object) -> str: ...
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]: ...
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_chat_template(self) -> str: ...
    def apply_chat_template(self, conversation: object, **options: object) -> object: ...
    def save_pretrained(self, save_directory: str) -> object: ...


@frozen
class Example:
    """One row of a task, in the task's own terms.

    id: unique within its split. fields: the values that the prompt's templates see. answer: what the model is to write
    (training target, shots, gold), without the delimiter before it. reasoning: the worked solution, where it is apart
    from the answer. choices and gold: the options and the index of the right one, of a `choice` task. references: every
    text that counts as right (at least the answer). cluster: items with the same one are not independent.
    continuation: what is scored after each choice's own prompt, of a `choice` task whose prompts differ by choice.
    """

    id: str
    fields: Mapping[str, Any]
    answer: str
    reasoning: str | None = None
    choices: tuple[str, ...] = ()
    gold: int | None = None
    references: tuple[str, ...] = ()
    cluster: str | None = None
    continuation: str | None = None


@frozen
class Target:
    """What a model is to write. reasoning: None if none is asked for, '' where it is and the row has none."""

    answer: str
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """Reasoning and answer on lines of their own, or the answer alone."""
        return f"{self.reasoning}\n{self.answer}" if self.reasoning else self.answer


@frozen
class Shot:
    """A worked example shown before the question: the user's part, its fields, and the target.

    prefix: what opens its answer, None for the prompt's own.
    """

    user: str
    target: Target
    inputs: Mapping[str, Any] = field(factory=dict)
    prefix: str | None = None


@frozen
class Prompt:
    """What a model is asked, before any format. prefix opens the answer (`Answer:`); delimiter stands between them.

    inputs: the user's part as fields, for formats that write fields down. reasoned: the target begins with reasoning.
    shot_delimiter: between shots, and between the last one and the question, in formats without turns.
    """

    user: str
    system: str = ""
    shots: tuple[Shot, ...] = ()
    prefix: str = ""
    delimiter: str = " "
    inputs: Mapping[str, Any] = field(factory=dict)
    reasoned: bool = False
    shot_delimiter: str = "\n\n"


@frozen
class Output:
    """What came back for one example: text of a generation, or the choices' summed log-likelihoods in nats.

    verdicts: of a `code` task, what became of each sample: passed, failed, timed out or died.
    written: of a `choice` task, each choice as its format writes it, which is what was scored; empty for as it is.
    target_loglikelihood: nats, of the target that the model was to write; None if it wasn't asked for.
    target_bytes: UTF-8 bytes of that target as its format writes it.
    """

    text: str = ""
    loglikelihoods: tuple[float, ...] = ()
    written: tuple[str, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: float = 0.0
    finish_reason: str = ""
    verdicts: tuple[str, ...] = ()
    target_loglikelihood: float | None = None
    target_bytes: int = 0


@frozen
class Score:
    """One metric's value for one example."""

    metric: str
    value: float


@frozen
class Estimate:
    """A mean over n items with its standard error and 95% interval; method says how the interval was made."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int
    method: str = field(default="wilson")
