"""Whether a model can take a trie: tried on it, with a tiny one."""

from __future__ import annotations

from attrs import frozen

from slmbench.engines.shared_prefix._attention import Pass, tree_attention
from slmbench.engines.shared_prefix._passes import hidden_states
from slmbench.engines.shared_prefix._slots import Slots
from slmbench.engines.shared_prefix._trie import Segment, build_trie, lay_out
from slmbench.errors import SlmbenchError
from slmbench.models import adapter_of, core_model, dispatches_attention
from slmbench.values import Config, Model

CLOSE = {"float32": 1e-4, "float64": 1e-4}
CLOSE_IN_HALF = 0.03


@frozen
class Ability:
    """What a model can take. reason: why no trie, '' where it can. token_bytes: of one token's keys and values.

    most_tokens: sequences longer than this change the positions of all tokens beside them, and are batched plainly.
    """

    reason: str = ""
    token_bytes: int = 0
    most_tokens: int | None = None


def ability_of(model: Model) -> Ability:
    """Whatever a class of anyone's does with such a mask: plain batching always works.

    Raises SlmbenchError for a model whose hidden states are no numbers.
    """
    core = core_model(model)
    if core.config.is_encoder_decoder:
        return Ability("it is an encoder-decoder")
    active = getattr(model, "active_peft_config", None)
    if getattr(active, "is_prompt_learning", False):
        return Ability("its adapter puts tokens of its own before the prompt")
    if getattr(active, "alora_invocation_tokens", None):
        return Ability("its adapter acts from tokens of its own on")
    if not dispatches_attention(core):
        return Ability("its attention can't be exchanged")
    try:
        token_bytes = _try_on(core)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        KeyError,
        IndexError,
        NotImplementedError,
        AssertionError,
    ):
        return Ability("its mask can't be extended")
    if token_bytes is None:
        return Ability("under a mask of branches it computes something else")
    return Ability("", token_bytes, _turning_point(core.config.get_text_config()))


def _turning_point(config: Config) -> int | None:
    """Up to how many tokens the rotations of positions are the same for all sequences of a batch."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) not in ("longrope", "dynamic"):
        return None
    known = rope.get("original_max_position_embeddings", getattr(config, "original_max_position_embeddings", None))
    return int(known or config.max_position_embeddings)


def _try_on(core: Model) -> int | None:
    """Bytes of a token's keys and values; None where a tiny trie and a decoding step give other numbers."""
    import numpy as np
    import torch

    vocabulary = core.config.get_text_config().vocab_size
    tokens = np.random.default_rng(0).integers(0, vocabulary, 14).astype(np.int32)
    trunk, left, right, more = tokens[:5], tokens[5:8], tokens[8:12], tokens[12:]
    device = core.get_input_embeddings().weight.device
    alone = []
    with torch.no_grad():
        for row in (np.concatenate([trunk, left, more[:1]]), np.concatenate([trunk, right])):
            ids = torch.from_numpy(row.astype(np.int64))[None].to(device)
            found = core.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            alone.append(found.float())
        logits = core(input_ids=ids, use_cache=False).logits[0, -1].float()
        headed = core.get_output_embeddings()(found[-1:])[0].float()
        adapter = adapter_of(core)
        root = Segment(trunk, np.arange(5, dtype=np.int32), None, (), [], adapter=adapter)
        branches, _ = build_trie([left, right])
        (fork,) = lay_out(branches, adapter=adapter)
        fork.positions, fork.context = fork.positions + 5, (root,)
        with tree_attention(core):
            one = Pass([root, fork], {}, frozenset({root, fork}))
            tree = hidden_states(core, one).float()
            # The decoding step goes on from the left branch, whose tokens may stand before or behind the right one's.
            first = 0 if tuple(left) < tuple(right) else len(right)
            pairs = [(k[:, :, first : first + 3], v[:, :, first : first + 3]) for k, v in one.held[fork]]
            slots = Slots(1, adapter)
            slots.held[root] = one.held[root]
            slots.add(pairs, 5, (root,))
            slots.begin_step()
            stepped = hidden_states(core, Pass([], slots.held, frozenset(), slots), more[:1], slots.positions).float()
    want = torch.cat([alone[0][:5], *([alone[0][5:8], alone[1][5:]] if first == 0 else [alone[1][5:], alone[0][5:8]])])
    if not bool(torch.isfinite(want).all()):
        raise SlmbenchError(
            "the model computes NaN or infinity: its weights or its adapter's are such, or "
            f"{core.dtype} is too narrow for it"
        )
    bound = CLOSE.get(str(found.dtype).removeprefix("torch."), CLOSE_IN_HALF)
    same = all(
        float((ours - theirs).abs().max()) <= bound * float(theirs.abs().max().clamp(min=1e-30))
        for ours, theirs in ((tree, want), (stepped, alone[0][8:]), (headed, logits))
    )
    if not same:
        return None
    return int(sum((k.numel() * k.element_size() + v.numel() * v.element_size()) // 5 for k, v in one.held[root]))
