"""Token costs: counted again here, text by text, with nothing of the code under test but the formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmbench.lengths import Ruler
from slmbench.task import load_task
from slmbench.tokens import format_costs, token_costs


def _count(tokenizer: Any, *texts: str) -> int:
    return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)


def test_costs_of_a_generate_task_are_those_of_its_texts(nano_tokenizer: Any) -> None:
    task = load_task("nq_open", data="samples")
    rows = [(str(e.fields["question"]), e.answer) for e in task.examples("validation")]
    costs = token_costs(task, Ruler("nano", nano_tokenizer))
    n = len(rows)
    assert (costs.rows, costs.source, costs.model) == (n, "golden", "nano")
    plain = [f"Q: {question}?\nA: {answer}" for question, answer in rows]
    assert costs.plain == _count(nano_tokenizer, *plain) / n
    objects = [{"question": question, "answer": answer} for question, answer in rows]
    compact: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":")}
    assert costs.json == _count(nano_tokenizer, *(json.dumps(one, **compact) for one in objects)) / n
    assert costs.json_array == _count(nano_tokenizer, json.dumps(objects, **compact)) / n
    from toon_format import encode

    # The format leaves whole numbers without quotes; a table of an export keeps them text.
    bare = [one | {"answer": int(one["answer"])} if one["answer"].isdigit() else one for one in objects]
    assert bare != objects
    assert costs.toon == _count(nano_tokenizer, *(encode(one) for one in bare)) / n
    assert costs.toon_table == _count(nano_tokenizer, encode({"rows": objects}) + "\n") / n


def test_the_chat_form_is_the_tokenizers_own_template(nano_tokenizer: Any) -> None:
    task = load_task("nano_choice", data="samples").with_shots(0)
    turns = [
        [
            {"role": "user", "content": task.question(example)},
            {"role": "assistant", "content": f"Answer: {example.choices[example.gold or 0]}"},
        ]
        for example in task.examples("test")
    ]
    texts = [nano_tokenizer.apply_chat_template(turn, tokenize=False).rstrip("\n") for turn in turns]
    assert token_costs(task, Ruler("nano", nano_tokenizer)).chat == _count(nano_tokenizer, *texts) / len(texts)


def test_a_declared_format_is_counted_with_its_end_mark_and_without_trainings_eos(nano_tokenizer: Any) -> None:
    task = load_task("prompts", data="samples")
    costs = token_costs(task, Ruler("nano", nano_tokenizer))
    texts = [f"### Instruction:\n{e.fields['prompt']}\n\n### Response:\n\n\n### End" for e in task.examples("test")]
    assert costs.declared == {"instruction": _count(nano_tokenizer, *texts) / len(texts)}
    assert costs.as_json()["tokens_per_record"]["instruction"] == round(costs.declared["instruction"], 2)


def test_options_are_in_the_batches_as_in_an_export_and_in_no_record_alone(nano_tokenizer: Any) -> None:
    task = load_task("arc_easy", data="samples").with_shots(0)
    examples = task.examples("test")
    alone = [{"question": e.fields["question"], "answer": e.choices[e.gold or 0]} for e in examples]
    costs = token_costs(task, Ruler("nano", nano_tokenizer))
    compact: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":")}
    assert costs.json == _count(nano_tokenizer, *(json.dumps(one, **compact) for one in alone)) / len(alone)
    most = max(len(e.choices) for e in examples)
    assert min(len(e.choices) for e in examples) < most
    batch = []
    for e, one in zip(examples, alone, strict=True):
        options = [*e.choices, *[""] * (most - len(e.choices))]
        batch.append(
            {"question": one["question"]}
            | {f"choice_{i}": option for i, option in enumerate(options, 1)}
            | {"answer": one["answer"]}
        )
    assert costs.json_array == _count(nano_tokenizer, json.dumps(batch, **compact)) / len(batch)


def test_shares_are_differences_to_json_and_to_plain(nano_tokenizer: Any) -> None:
    costs = token_costs(load_task("arc_easy", data="samples"), Ruler("nano", nano_tokenizer))
    value = costs.as_json()
    per = value["tokens_per_record"]
    assert value["toon_against_json"] == pytest.approx(per["toon"] / per["json"] - 1, abs=2e-3)
    assert value["toon_against_plain"] == pytest.approx(per["toon"] / per["plain"] - 1, abs=2e-3)
    assert value["toon_table_against_json_array"] == pytest.approx(per["toon_table"] / per["json_array"] - 1, abs=2e-3)


def test_rows_come_from_a_generator_and_n_bounds_them(nano_tokenizer: Any) -> None:
    costs = token_costs(load_task("nano_note"), Ruler("nano", nano_tokenizer), 7)
    assert (costs.rows, costs.source) == (7, "generated")


def test_a_tokenizer_that_allows_no_chat_has_no_number_for_it(nano_tokenizer: Any) -> None:
    import copy

    tokenizer = copy.deepcopy(nano_tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no turns here') }}"
    costs = token_costs(load_task("nano_note", data="samples"), Ruler("mute", tokenizer))
    assert costs.chat is None and costs.as_json()["tokens_per_record"]["chat"] is None and costs.toon > 0


@pytest.mark.realdata
def test_tables_of_short_cells_are_where_toon_saves_most(nano_tokenizer: Any) -> None:
    ruler = Ruler("nano", nano_tokenizer)
    short, long = (token_costs(load_task(name), ruler) for name in ("commonsense_qa", "sumpubmed"))
    assert short.source == long.source == "mirror"
    assert short.table_against_array < -0.2 < -0.05 < long.table_against_array


@pytest.mark.parametrize("name", ["plain", "toon", "chat"])
def test_costs_in_one_format_are_those_of_all_of_them(nano_tokenizer: Any, name: str) -> None:
    task, ruler = load_task("medical_qa", data="samples"), Ruler("nano", nano_tokenizer)
    costs = token_costs(task, ruler)
    assert format_costs(task, ruler, name) == (getattr(costs, name), costs.json, costs.plain, costs.rows)
