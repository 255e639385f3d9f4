"""An adapter into a folder that runs elsewhere: merged weights, an Ollama model, or what llama.cpp converts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.deployment._files import copy_pieces, make_readable_elsewhere, write_model
from slmbench.deployment._folder import RECORD, made_whole, place_of
from slmbench.deployment._gguf import DEFAULT_KINDS, GgufPlan, plan_gguf, write_ggufs, write_lora_file
from slmbench.deployment._merge import Merged, merge_adapter, written_in
from slmbench.deployment._modelfile import Asking, modelfile, turns_of, without_bos
from slmbench.deployment._runtimes import (
    GGUF_ARCHITECTURES,
    OLLAMA_ARCHITECTURES,
    gguf_problems,
    next_commands,
    ollama_notices,
    padding_ids,
)
from slmbench.deployment._trained import Trained, asking_of, probes_of, read_trained, tasks_of
from slmbench.deployment._turns import Turns
from slmbench.errors import UsageError
from slmbench.files import write_atomically, write_json
from slmbench.foreign import Foreign, read_model
from slmbench.formats import chat_template_of, load_format, prompt_ids
from slmbench.formats.chat import TODAY
from slmbench.gguf_files import ARCHITECTURES, class_of
from slmbench.machine import code, packages
from slmbench.models import has_template, load_config, load_model, load_tokenizer, own_tokenizer
from slmbench.paths import shown
from slmbench.runs import now
from slmbench.task import Task
from slmbench.values import Config, JsonObject, Prompt, Tokenizer

Target = Literal["merged", "ollama", "gguf", "gguf-lora", "gguf-ready"]
TARGETS: tuple[Target, ...] = ("merged", "ollama", "gguf", "gguf-lora", "gguf-ready")
_AGAIN = "take the base's own files again"


class _Ends(Foreign):
    """Of generation_config.json the ids that end a text."""

    eos_token_id: int | list[int] | None = None


@frozen
class Export:
    """A finished export. notices: to be known; problems: what a converter would refuse; commands: what is next."""

    folder: str
    record: dict[str, Any]
    notices: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def export_adapter(
    folder: str,
    to: Target,
    catalog: Catalog,
    *,
    out: str,
    model: str | None = None,
    dtype: str = "auto",
    format: str | None = None,
    force_base: bool = False,
    quantize: Sequence[str] = (),
) -> Export:
    """Writes `<out>/models/<name>-<to>`, whole or not at all, and returns what is in it.

    folder: an adapter's, or that of a model whose weights were all trained. model: the base, where the adapter doesn't
    say. format: the layout that it was trained on, where it doesn't say. force_base: whatever base it was made on.
    dtype: of the weights; auto: for `merged` as the base was held in training, else bfloat16 where it was held so
    and float16 otherwise. quantize: of `gguf`, the ways to pack it, a file each; f16 if none is given.
    Raises UsageError for an adapter of another base or one that is damaged, for an architecture that the target can't
    run, for a way to pack that is none or that nothing here can do, and for a folder in the way that no export made;
    OfflineError if the base is missing; SlmbenchError if merging changes what the model says, or where nothing can be
    written.
    """
    _refuse_options(to, dtype, quantize)
    trained = read_trained(folder, catalog, model, format)
    place = place_of(out, trained.name, to)
    config = load_config(trained.source)
    _refuse(config, to, trained)
    if to == "gguf-lora":
        return _export_lora(trained, config, place, force_base)
    tokenizer = base_tokenizer = load_tokenizer(trained.source)
    told: list[str] = []
    if trained.info is not None:
        seq2seq = trained.source.architecture == "seq2seq"
        tokenizer, told = own_tokenizer(trained.info, base_tokenizer, seq2seq=seq2seq)
    if trained.layout_unknown:
        trained, of_layout = _with_layout(trained, tokenizer, is_own=tokenizer is not base_tokenizer, to=to)
        told += of_layout
    tasks, missing = tasks_of(trained, catalog)
    notices = [*told, *(f"task {name!r} no longer exists here; it was left out of the measurement" for name in missing)]
    # What a TEMPLATE or a GGUF file can't say comes to light before gigabytes are merged.
    turns, asking, told = _layout(trained, tokenizer, tasks) if to == "ollama" else (None, Asking(), [])
    notices += told
    plan = None
    if to == "gguf":
        kinds, is_own = quantize or DEFAULT_KINDS, tokenizer is not base_tokenizer
        plan = plan_gguf(trained, config, tokenizer, catalog, kinds, is_own=is_own)
        notices += plan.notices
    with made_whole(place, trained.name) as partial:
        record, said = _write(trained, tokenizer, tasks, config, to, dtype, partial, force_base, plan)
        notices += [one for one in said if one not in notices]
        if turns is not None:
            notices += _write_modelfiles(partial, trained, tokenizer, config, turns, asking, record["dtype"])
        folder_for_others = to in ("ollama", "gguf-ready")
        problems = gguf_problems(partial, own_tokenizer=_own_tokenizer(trained)) if folder_for_others else []
        if to == "gguf-ready" and (spare := padding_ids(partial)):
            notices.append(f"{spare} embeddings have no token; the converter fills them with [PAD...] tokens")
        commands = []
        if folder_for_others:
            commands = next_commands(place, trained.name, record["dtype"], ollama=turns is not None)
        elif plan is not None:
            commands = [f"slmbench eval {os.path.join(place, record['gguf'][0]['file'])}"]
        return _finish(place, partial, record, notices, problems, commands)


def _finish(
    place: str, partial: str, record: JsonObject, notices: list[str], problems: list[str], commands: list[str]
) -> Export:
    record |= {"notices": notices, "problems": problems, "commands": commands}
    record["files"] = {name: os.path.getsize(os.path.join(partial, name)) for name in sorted(os.listdir(partial))}
    write_json(os.path.join(partial, RECORD), record)
    return Export(place, record, tuple(notices), tuple(problems), tuple(commands))


def _export_lora(trained: Trained, config: Config, place: str, force_base: bool) -> Export:
    with made_whole(place, trained.name) as partial:
        said, notices = write_lora_file(partial, trained, config, force_base=force_base)
        record = _record(trained, "gguf-lora") | {"gguf": [said]}
        commands = [f"llama-cli -m BASE.gguf --lora {os.path.join(place, said['file'])}"]
        return _finish(place, partial, record, notices, [], commands)


def _refuse_options(to: Target, dtype: str, quantize: Sequence[str]) -> None:
    if quantize and to != "gguf":
        raise UsageError(f"--quantize is of `--to gguf`; `--to {to}` packs nothing")
    if dtype != "auto" and to in ("gguf", "gguf-lora"):
        how = "--quantize f16, bf16 or f32 says" if to == "gguf" else "it is always float32"
        raise UsageError(f"--dtype is not of `--to {to}`: {how}")


def _refuse(config: Config, to: Target, trained: Trained) -> None:
    architecture = class_of(config)
    if to == "ollama" and config.is_encoder_decoder:
        raise UsageError(
            f"{trained.source.name!r} is an encoder-decoder ({architecture}), which Ollama doesn't run; `--to merged` "
            "gives a folder for transformers, `--to gguf-ready` one for llama.cpp"
        )
    known = set(GGUF_ARCHITECTURES) | (set(OLLAMA_ARCHITECTURES) if to == "ollama" else set())
    known = set(ARCHITECTURES) if to in ("gguf", "gguf-lora") else known
    if to != "merged" and architecture not in known:
        otherwise = "`--to merged` writes any, for you to try"
        if architecture in GGUF_ARCHITECTURES and to == "gguf":
            otherwise = "`--to gguf-ready` gives a folder that llama.cpp's own converter takes"
        raise UsageError(
            f"{trained.source.name!r} is a {architecture}, and `--to {to}` knows {', '.join(sorted(known))}; "
            f"{otherwise}"
        )


def _layout(trained: Trained, tokenizer: Tokenizer, tasks: list[Task]) -> tuple[Turns, Asking, list[str]]:
    asking, told = asking_of(trained, tasks)
    turns = turns_of(trained.format, tokenizer, asking)
    if asking.system and turns.system is None:
        told.append("the model's chat template has no system message, and the tasks' one is left out")
    if trained.format.template_of is not None and tokenizer.chat_template:
        if "strftime_now" in tokenizer.chat_template:
            told.append(f"the chat template writes today's date; training, evaluation and TEMPLATE have {TODAY} there")
        spaced = trained.format.render(Prompt("  x  "), tokenizer).text
        if "  x  " not in spaced:
            told.append("the chat template strips white space from the ends of messages; a TEMPLATE can't")
    return turns, asking, told


def _with_layout(trained: Trained, tokenizer: Tokenizer, *, is_own: bool, to: Target) -> tuple[Trained, list[str]]:
    """With the layout that an adapter made elsewhere was most likely trained on, and what to tell of that."""
    if not tokenizer.chat_template:
        return trained, []
    if to == "ollama" and trained.info is not None and not is_own and not has_template(trained.folder):
        raise UsageError(
            f"adapter {shown(trained.folder)} doesn't say how its prompts were laid out, and {trained.source.name!r} "
            "has a chat template: give --format chat if it was trained through that, --format plain if on bare texts"
        )
    told = "it is laid out by its chat template, as tools that tune chat models do; --format plain if it was not"
    return evolve(trained, format=load_format("chat"), layout_unknown=False), [told]


def _write(
    trained: Trained,
    tokenizer: Tokenizer,
    tasks: list[Task],
    config: Config,
    to: Target,
    dtype: str,
    partial: str,
    force_base: bool,
    plan: GgufPlan | None,
) -> tuple[JsonObject, tuple[str, ...]]:
    """(the record, what a person should know of the base); writes the model."""
    probes = probes_of(trained, tasks, tokenizer, config)
    if trained.info is None:
        loaded = load_model(trained.source, dtype=trained.held_in)
        written = _dtype(dtype, loaded.dtype, to)
        merged = Merged(written_in(loaded.model, written), loaded.tokenizer, loaded, {"prompts": 0, "dtype": written})
    else:
        held_in = trained.held_in
        written = _dtype(dtype, held_in if held_in != "auto" else str(config.dtype).removeprefix("torch."), to)
        merged = merge_adapter(
            trained.source,
            trained.folder,
            probes,
            held_in=held_in,
            quantization=trained.quantization,
            dtype=written,
            force_base=force_base,
        )
    info = merged.base.adapter
    record = _record(trained, to) | {
        **({"forced_base": info.forced} if info is not None and info.forced else {}),
        "tasks": [task.name for task in tasks],
        "format": trained.format.name,
        "base_weights_sha256": merged.base.weights_sha256,
        "dtype": written,
        "merge": merged.measured,
    }
    if plan is not None:
        said = plan.vocabulary
        record["tokenizer"] = {"model": said.model, "pre": said.pre, "otherwise_cut": list(plan.otherwise_cut)}
        record["gguf"] = write_ggufs(partial, trained.name, merged.model, plan)
        return record, merged.base.notices
    # Without the padding token that loading may have put in.
    write_model(partial, merged.model, tokenizer)
    if to != "merged":
        copy_pieces(partial, trained)
        by_template = trained.format.template_of is not None
        chat = chat_template_of(tokenizer) if by_template else tokenizer.chat_template
        bos = _begins_with_bos(trained, tokenizer)
        make_readable_elsewhere(partial, tokenizer, chat_template=chat, begins_with_bos=bos)
    return record, merged.base.notices


def _record(trained: Trained, to: Target) -> JsonObject:
    info = trained.info
    return {
        "schema": 1,
        "target": to,
        "model": {"name": trained.source.name, "id": trained.source.id, "revision": trained.source.revision},
        "adapter": None if info is None else {"name": info.name, "sha256": info.sha256, "rank": info.rank},
        "recipe": trained.record.recipe,
        "created": now(),
        "code": code(),
        "packages": packages(),
    }


def _dtype(asked: str, held_in: str, to: Target) -> str:
    if asked != "auto":
        if to == "gguf-ready" and asked == "float32":
            raise UsageError("--dtype float32: `--to gguf-ready` writes bfloat16 or float16, as converters want them")
        return asked
    if to == "merged":
        return held_in if held_in in ("float32", "bfloat16", "float16") else "float32"
    if to == "gguf":
        return "float32"  # Each file is packed of the sum itself, not of what another rounded.
    return "bfloat16" if held_in == "bfloat16" else "float16"


def _begins_with_bos(trained: Trained, tokenizer: Tokenizer) -> bool:
    rendered = trained.format.render(Prompt("x"), tokenizer).text
    ids = prompt_ids(trained.format, tokenizer, rendered)
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def _write_modelfiles(
    partial: str, trained: Trained, tokenizer: Tokenizer, config: Config, turns: Turns, asking: Asking, dtype: str
) -> list[str]:
    if _begins_with_bos(trained, tokenizer):
        turns = without_bos(turns, tokenizer.bos_token)
    stop = [tokenizer.decode(trained.format.ends_turn(tokenizer)[-1:])]
    ends = read_model(os.path.join(partial, "generation_config.json"), _Ends, todo=_AGAIN).eos_token_id
    stop += [tokenizer.decode([end]) for end in (ends if isinstance(ends, list) else [])]
    context = getattr(config, "max_position_embeddings", None)
    gguf = os.path.basename(next_commands(".", trained.name, dtype, ollama=True)[1].rpartition(" ")[2])
    for name, weights in (("Modelfile", "."), ("Modelfile.gguf", f"./{gguf}")):
        text = modelfile(weights, turns, asking, stop=stop, context=context)
        write_atomically(os.path.join(partial, name), text.encode())
    return [
        "Modelfile is for versions of Ollama that convert safetensors of this architecture by themselves; the newest "
        "ones say that they don't: make a GGUF file and use Modelfile.gguf",
        *ollama_notices(partial),
    ]


def _own_tokenizer(trained: Trained) -> bool:
    # A whole model's folder doesn't say what it was made from; its record does.
    model = trained.record.model or ""
    return (
        trained.source.twin or trained.source.id.startswith("slmbench/") or model == "nano" or model.endswith("-twin")
    )
