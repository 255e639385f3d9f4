"""The Markdown of a card: what it is, what it scores and within what, what it was made of, how it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmbench.cards._facts import CardBase, CardFacts, CardScore
from slmbench.cards._text import code, fenced, plain, table, without_places
from slmbench.cards._trained import hardware_words, training_lines
from slmbench.leaderboard.texts import interval, number
from slmbench.values import Estimate

_WHAT = {
    "adapter": "A LoRA adapter",
    "model": "A model, all of whose weights were trained",
    "merge": "A merged model",
    "export": "An adapter merged",
    "evaluation": "Scores of a model",
}

_OF = {"adapter": "on", "model": "from", "merge": "of adapters or models of", "export": "into", "evaluation": "of"}


def body_of(facts: CardFacts) -> str:
    """All that stands below the head."""
    parts = [
        [f"# {plain(facts.name)}", "", *_what(facts)],
        ["## Scores", "", *_scores(facts)],
        ["## Limits", "", *(f"- {plain(limit)}" for limit in facts.limits)] if facts.limits else [],
        _making(facts),
        ["## Use", "", *_use(facts)] if facts.kind != "evaluation" else [],
        ["## Cite", "", *fenced("\n\n".join(facts.citations), "bibtex")] if facts.citations else [],
    ]
    return "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _what(facts: CardFacts) -> list[str]:
    base = facts.base
    tasks = ", ".join(plain(one.task) for one in facts.data)
    trained = f", trained on {tasks}" if tasks else ""
    what, where = _WHAT[facts.kind], _OF[facts.kind]
    if facts.kind == "adapter" and "lora" not in facts.tags:
        what = "An adapter"
    elif facts.kind == "export" and facts.relation == "adapter":
        what, where = "A LoRA adapter for llama.cpp", "on"
    of = "" if base is None else f" {where} {_linked(base)}"
    lines = [f"{what}{of}{trained}. Made and measured with slmbench, which wrote this card."]
    told = [f"- {plain(what)}: {plain(value)}" for what, value in facts.made.items()]
    told += [f"- {plain(part)}" for part in facts.parts]
    if facts.kind != "evaluation":
        told.append(f"- licence: {plain(facts.licence.license)}; {plain(facts.licence.why)}")
        told += [f"  - {plain(one.what)}: {plain(one.license or 'not declared')}" for one in facts.licensed]
    return [*lines, "", *told] if told else lines


def _linked(base: CardBase) -> str:
    if base.twin:
        return f"{plain(base.name)}, a small random copy that shows that a recipe runs"
    if base.hub is None:
        return plain(base.name)
    return f"[{plain(base.hub)}](https://huggingface.co/{base.hub})"


def _scores(facts: CardFacts) -> list[str]:
    if not facts.scores:
        return ["No finished run of it was found."]
    with_base = any(score.base is not None for score in facts.scores)
    heads = ["task", "metric", "asked", "n", *(["base"] if with_base else []), "this"]
    heads += ["difference, on the same items"] if with_base else []
    rows = [_row(score, with_base) for score in facts.scores]
    legend = "Means over items with their 95% intervals."
    if with_base:
        legend += (
            " A difference is this minus base, item by item, with its own interval; it is called better or worse "
            "if that leaves 0 out and a paired test of this one score says so at 5%."
        )
    if any(not score.higher_is_better for score in facts.scores):
        legend += " Of metrics marked with \u2193 less is better."
    told = [*table(heads, rows, left=3), "", legend]
    if facts.engines:
        told += ["", f"Computed by {', '.join(map(code, facts.engines))} on {_some(facts.evaluated_on)}."]
    return told


def _row(score: CardScore, with_base: bool) -> list[str]:
    down = "" if score.higher_is_better else " \u2193"
    badges = f" ({plain(', '.join(score.badges))})" if score.badges else ""
    metric = f"**{plain(score.metric)}**" if score.primary else plain(score.metric)
    cells = [plain(score.task), f"{metric}{down}", f"{plain(score.asked)}{badges}", f"{score.estimate.n:,}"]
    if with_base:
        cells.append("" if score.base is None else _told(score.base))
    cells.append(_told(score.estimate))
    if with_base:
        sign = "+" if score.difference is not None and score.difference.value > 0 else ""
        verdict = f", {score.verdict}" if score.verdict else ""
        cells.append("" if score.difference is None else f"{sign}{_told(score.difference)}{verdict}")
    return cells


def _told(made: Estimate) -> str:
    return f"{number(made.value)}{interval(made.ci_low, made.ci_high, made.method)}".replace("[", "\\[").replace(
        "]", "\\]"
    )


def _some(machines: Sequence[str]) -> str:
    return "; ".join(map(plain, machines)) or "a machine that its record doesn't tell"


def _making(facts: CardFacts) -> list[str]:
    lines = list(_making_lines(facts))
    return ["## Training", "", *lines] if lines else []


def _making_lines(facts: CardFacts) -> Iterator[str]:
    if facts.training is not None:
        yield from training_lines(facts.training, facts.data)
        if (machine := hardware_words(facts.training.hardware)) is not None:
            yield f"- trained on {plain(machine)}"
    if facts.recipe is not None:
        yield from ["", "The recipe as it was run:", "", *fenced(without_places(facts.recipe), "yaml")]


def _use(facts: CardFacts) -> list[str]:
    base = facts.base
    where = "FOLDER"  # The name of the repository isn't known before it is pushed.
    lines: list[str] = []
    named = base.hub if base is not None and base.hub is not None else None
    if facts.kind == "adapter":
        made = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer"
            if facts.architecture == "causal"
            else "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer",
            "",
            f"base = {_quoted(named or 'BASE')}",
            "tokenizer = AutoTokenizer.from_pretrained(base)",
            f"model = {_auto(facts)}.from_pretrained(base)",
            f'model = PeftModel.from_pretrained(model, "{where}")',
        ]
        lines += [f"`{where}` is the folder, or the repository, of this card. With peft:", ""]
        lines += fenced("\n".join(made), "python")
    elif facts.library == "gguf":
        lines += ["The `.gguf` files are for llama.cpp and what is built on it."]
    else:
        made = [
            f"from transformers import {_auto(facts)}, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{where}")',
            f'model = {_auto(facts)}.from_pretrained("{where}")',
        ]
        lines += [f"`{where}` is the folder, or the repository, of this card:", "", *fenced("\n".join(made), "python")]
    asked = list(dict.fromkeys(score.task for score in facts.scores)) or [one.task for one in facts.data]
    tasks = ",".join(task.partition(" (")[0] for task in asked)
    if facts.library != "gguf" and tasks:
        model = _model_word(base) if facts.kind == "adapter" else where
        adapter = f" --adapter {where}" if facts.kind == "adapter" else ""
        limits = {score.badges for score in facts.scores}
        limit = f" --{badge}" if len(limits) == 1 and (badge := " ".join(*limits)).startswith("limit ") else ""
        command = f"slmbench eval {model}{adapter} --tasks {_shell(tasks)}{limit}"
        lines += ["", "Score it on the same tasks:", "", *fenced(command, "sh")]
    if facts.format is not None:
        lines += ["", f"Prompts were laid out by the format {code(facts.format)} in training; others are others to it."]
    return lines


def _auto(facts: CardFacts) -> str:
    return "AutoModelForCausalLM" if facts.architecture == "causal" else "AutoModelForSeq2SeqLM"


def _model_word(base: CardBase | None) -> str:
    if base is None:
        return "BASE"
    return _shell(base.name if base.declared else base.hub or "BASE")


def _shell(word: str) -> str:
    import shlex

    from slmbench.visible import visible

    return shlex.quote(visible(word))


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
