"""Rows that are too long are cut where evaluation cuts, and counted."""

from __future__ import annotations

import copy
import json
import re

import datasets
import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import DataError, UsageError
from slmbench.formats import load_format
from slmbench.schema import RowsSpec
from slmbench.task import load_task, load_task_folder
from slmbench.training._rows import (
    as_dataset,
    mixture,
    refuse_too_few,
    split_validation,
    take_rows,
    training_rows,
)


def test_long_rows_lose_the_front_of_the_prompt_and_keep_answer_and_end(nano_tokenizer):
    task, style = load_task("nano_note"), load_format("plain")
    whole = training_rows(task, style, nano_tokenizer, limit=20, max_tokens=512)
    short = training_rows(task, style, nano_tokenizer, limit=20, max_tokens=48)
    assert mixture(whole)["nano_note"]["truncated_rows"] == 0
    assert mixture(short)["nano_note"]["truncated_rows"] == 20
    for a, b in zip(whole, short, strict=True):
        assert b.length == 48
        assert b.answer == a.answer
        assert b.answer[-1] == nano_tokenizer.eos_token_id
        assert a.prompt == a.prompt[: b.cut] + b.prompt


def test_answers_that_alone_are_too_long_are_cut_and_counted(nano_tokenizer, rows_of):
    rows = [{"question": "Which?", "answer": "a " * 40}, {"question": "Which?", "answer": "b"}]
    _, (long, short) = rows_of(GENERATE, rows=rows, max_tokens=12)
    assert (long.length, len(long.prompt)) == (12, 1)
    assert long.cut_answer > 0 and long.answer[-1] != nano_tokenizer.eos_token_id
    assert (short.cut_answer, short.answer[-1]) == (0, nano_tokenizer.eos_token_id)
    assert mixture([long, short])["t"]["truncated_answers"] == 1


def test_a_task_whose_every_answer_is_cut_is_refused_with_the_length_that_would_do(nano_tokenizer, rows_of):
    rows = [{"question": "Which?", "answer": "a " * n} for n in (60, 40)]
    with pytest.raises(
        DataError, match=r"task 't', split 'train': all 2 rows were truncated.*set max_tokens to (\d+)"
    ) as no:
        rows_of(GENERATE, rows=rows, max_tokens=12)
    enough = int(re.search(r"set max_tokens to (\d+)", str(no.value))[1])
    _, made = rows_of(GENERATE, rows=rows, max_tokens=enough)
    assert [row.cut_answer > 0 for row in made] == [True, False]
    with pytest.raises(DataError):
        rows_of(GENERATE, rows=rows, max_tokens=enough - 1)


def test_rows_that_are_shots_are_not_trained_on(nano_tokenizer):
    style = load_format("plain")
    task = load_task("nano_note").with_shots(3)
    rows = training_rows(task, style, nano_tokenizer, limit=10, max_tokens=1024)
    assert [row.example.id for row in rows] == [f"train-{i}" for i in range(3, 13)]
    shown = {shot.target.text for shot in task.shots(rows[0].example)}
    assert shown.isdisjoint(task.answer(row.example) for row in rows)


HEAD = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
"""
GENERATE = (
    HEAD
    + """\
kind: generate
prompt: {user: "{{ question }}", prefix: "A:"}
answer: "{{ answer }}"
metrics: [exact_match]
"""
)
ROWS = [{"question": f"{n} and {n}?", "answer": f"{2 * n}", "group": "ab"[n % 2], "why": "It is."} for n in range(9)]


@pytest.fixture
def rows_of(nano_tokenizer, write_task, tmp_path_factory):
    """rows_of(yaml, format, rows, cot) -> (task, its training rows)."""

    def make(yaml, format="plain", rows=ROWS, cot=None, limit=None, max_tokens=1024, seed=None):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        test = '{"question": "?", "answer": "0", "group": "a"}\n'
        folder = write_task("t", yaml, train=lines, test=test, root=tmp_path_factory.mktemp("root"))
        task = load_task_folder(str(folder), default_catalog()).with_cot(cot)
        options = {"limit": limit, "max_tokens": max_tokens, "seed": seed}
        return task, training_rows(task, load_format(format), nano_tokenizer, **options)

    return make


@pytest.mark.parametrize("seed", [0, 42, 3407])
def test_rows_drawn_by_a_seed_are_those_that_datasets_draws(rows_of, seed):
    rows = [{"question": f"{n} and {n}?", "answer": f"{2 * n}", "group": "a"} for n in range(100)]
    drawn = datasets.Dataset.from_list(rows).shuffle(seed=seed).select(range(30))
    _, made = rows_of(GENERATE, rows=rows, limit=30, seed=seed)
    assert [row.example.fields["answer"] for row in made] == drawn["answer"]


def test_a_draw_passes_over_rows_that_are_shots(rows_of):
    rows = [{"question": f"{n} and {n}?", "answer": f"{2 * n}", "group": "a"} for n in range(20)]
    _, of_all = rows_of(GENERATE, rows=rows, seed=1)
    _, made = rows_of(GENERATE + "fewshot: {n: 5}\n", rows=rows, limit=8, seed=1)
    shots = {f"train-{n}" for n in range(5)}
    assert [row.example.id for row in made] == [row.example.id for row in of_all if row.example.id not in shots][:8]


def test_more_rows_than_there_are_can_not_be_drawn(rows_of):
    task, _ = rows_of(GENERATE + "fewshot: {n: 2}\n")
    refuse_too_few([task], RowsSpec(n=7, seed=0))
    refuse_too_few([task], RowsSpec(n=4, seed=0), aside=3)
    with pytest.raises(UsageError) as told:
        refuse_too_few([task], RowsSpec(n=7, seed=0), aside=3)
    assert str(told.value) == (
        "rows.n: 7 rows are to be drawn, and 3 more are to be kept aside, but task 't' has 7 in its split 'train'; "
        "`--set rows.n=4`, or `--set rows=null` for all"
    )
    # Golden rows are as many as they are, and stand in for as many as are asked for.
    refuse_too_few([load_task("gsm8k", data="samples")], RowsSpec(n=3000, seed=0))


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_too_large_a_draw_is_refused_for_all_adapters_before_any_is_prepared(dry, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "summary: s\nmodel: nano\nadapters: {a: {tasks: [nano_note]}, b: {tasks: [nano_choice]}}\n"
        "evaluation: {tasks: [nano_note]}\nrows: {n: 9000000, seed: 1}\nvalidation: {rows: 8}\n"
    )
    assert main(["train", str(recipe), "--out", str(tmp_path / "out"), *dry]) == 2
    said = capsys.readouterr().err
    assert "task 'nano_note' has 4,000" in said and "task 'nano_choice' has 4,000" in said
    assert "`--set rows.n=3992`" in said and not (tmp_path / "out").exists()
    # Adapters that aren't asked for are none of it.
    assert main(["train", str(recipe), "--adapter", "b", "--out", str(tmp_path / "out"), *dry]) == 2
    assert "nano_note" not in capsys.readouterr().err


def test_skipped_rows_and_shots_are_not_trained_on(rows_of):
    _, rows = rows_of(GENERATE + "fewshot: {n: 2, skip: 3}\n", limit=3)
    assert [row.example.id for row in rows] == ["train-5", "train-6", "train-7"]


def test_all_rows_are_trained_on_where_shots_come_from_elsewhere(rows_of):
    own = "cot: {answer: '{{ answer }}', shots: [{question: q, answer: a, reasoning: r}]}\nfewshot: {n: 2}\n"
    for cot, first in (("few", 0), ("off", 2)):
        _, rows = rows_of(GENERATE + own, cot=cot)
        assert rows[0].example.id == f"train-{first}", cot


def test_no_shots_are_left_out_where_the_instruction_asks(rows_of):
    yaml = GENERATE + "cot: {answer: 'So {{ answer }}', reasoning: '{{ why }}', instruction: Think.}\nfewshot: {n: 2}\n"
    assert len(rows_of(yaml, cot="zero")[1]) == 9
    assert len(rows_of(yaml, cot="few")[1]) == 7


def test_rows_that_are_shots_of_their_own_group_are_not_trained_on(rows_of):
    task, rows = rows_of(GENERATE + "fewshot: {n: 2, same: group}\n")
    for row in rows:
        assert row.example.fields["question"] not in [shot.user for shot in task.shots(row.example)]


def text_of(nano_tokenizer, row):
    return nano_tokenizer.decode(row.prompt), nano_tokenizer.decode(row.answer)


def test_a_row_in_toon_ends_in_the_written_answer(nano_tokenizer, rows_of):
    rows = [{"question": "a: b?", "answer": 'say "x"\nor y'}, {"question": "1+1?", "answer": "2"}]
    _, (quoted, number) = rows_of(GENERATE, "toon", rows)
    end = nano_tokenizer.eos_token
    assert text_of(nano_tokenizer, quoted) == ('question: "a: b?"\nanswer:', f' "say \\"x\\"\\nor y"{end}')
    assert text_of(nano_tokenizer, number) == ("question: 1+1?\nanswer:", f" 2{end}")


def test_a_reasoned_row_is_trained_on_reasoning_and_answer(nano_tokenizer, rows_of):
    yaml = GENERATE + "cot: {answer: 'So {{ answer }}', reasoning: '{{ why }}', instruction: Think.}\n"
    end = nano_tokenizer.eos_token
    plain = rows_of(yaml, cot="zero")[1][1]
    assert text_of(nano_tokenizer, plain) == ("1 and 1?\nThink.\nA:", f" It is.\nSo 2{end}")
    toon = rows_of(yaml, "toon", cot="zero")[1][1]
    assert text_of(nano_tokenizer, toon) == (
        "question: 1 and 1?\nhow_to_answer: Think.\nreasoning:",
        f" It is.\nanswer: So 2{end}",
    )


@pytest.mark.parametrize(("delimiter", "between"), [("", ""), (r"\n", "\n"), (" ", " ")])
def test_the_delimiter_of_the_task_stands_before_what_is_trained_on(delimiter, between, nano_tokenizer, rows_of):
    yaml = GENERATE.replace('prefix: "A:"', f'prefix: "A:", delimiter: "{delimiter}"')
    prompt, answer = text_of(nano_tokenizer, rows_of(yaml)[1][1])
    assert (prompt, answer) == ("1 and 1?\nA:", f"{between}2{nano_tokenizer.eos_token}")


def test_a_continuation_is_trained_on_after_the_gold_choices_prompt(nano_tokenizer, rows_of):
    yaml = HEAD + (
        'kind: choice\nprompt: {user: "{{ question }} {{ choice }}"}\nchoices: [red, blue]\ngold: "{{ right }}"\n'
        'continuation: "{{ after }}"\nmetrics: [accuracy]\n'
    )
    _, (row,) = rows_of(yaml, rows=[{"question": "Is it?", "right": "blue", "after": "it is."}])
    assert text_of(nano_tokenizer, row) == ("Is it? blue", f" it is.{nano_tokenizer.eos_token}")


def test_a_code_task_is_trained_on_its_solution(nano_tokenizer, rows_of):
    yaml = HEAD + (
        'kind: code\nprompt: {user: "{{ question }}", delimiter: ""}\nanswer: "{{ answer }}"\n'
        'code: {tests: "pass"}\nmetrics: [pass@1]\n'
    )
    _, (row,) = rows_of(yaml, rows=[{"question": "def f():\n", "answer": "    return 1\n"}])
    prompt, answer = text_of(nano_tokenizer, row)
    assert (prompt, answer) == ("def f():\n", f"    return 1\n{nano_tokenizer.eos_token}")


def test_rows_without_an_answer_are_left_out_and_counted(nano_tokenizer, rows_of):
    rows = [{"question": "1?", "answer": "1"}, {"question": "2?", "answer": " "}, {"question": "3?", "answer": ""}]
    task, kept = rows_of(GENERATE, rows=rows)
    assert [row.example.id for row in kept] == ["train-0"]
    taken = take_rows(task, load_format("plain"), nano_tokenizer, limit=None, max_tokens=64)
    assert (taken.rows, taken.dropped) == (kept, {"no answer": 2})
    told = mixture(taken.rows, {"t": taken.dropped, "other": {"overlap": 4, "no answer": 0}, "clean": {}})
    assert (told["t"]["rows"], told["t"]["dropped_rows"], told["t"]["dropped"]) == (1, 2, {"no answer": 2})
    assert (told["other"]["rows"], told["other"]["dropped_rows"]) == (0, 4)
    assert "clean" not in told


def test_a_task_that_has_no_row_left_says_why(nano_tokenizer, rows_of):
    with pytest.raises(DataError, match=r"task 't', split 'train': no row has an answer, of 2.*check `answer`"):
        rows_of(GENERATE, rows=[{"question": "1?", "answer": ""}] * 2)
    with pytest.raises(DataError, match="task 't', split 'train': every row is a worked example"):
        rows_of(GENERATE + "fewshot: {n: 2}\n", rows=ROWS[:2])


def test_a_task_without_a_train_split_is_named():
    with pytest.raises(UsageError, match="task 'human_eval' has no train split"):
        training_rows(load_task("human_eval"), load_format("plain"), None, limit=1, max_tokens=64)


@pytest.fixture
def t5_like(nano_tokenizer):
    """A tokenizer that closes every text with EOS, as T5's do."""
    from tokenizers import processors

    tokenizer = copy.deepcopy(nano_tokenizer)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("format_name", ["plain", "toon"])
def test_encoder_and_decoder_get_texts_of_their_own_with_one_end_each(format_name, t5_like, rows_of):
    task, _ = rows_of(GENERATE)
    style, end = load_format(format_name), t5_like.eos_token_id
    rows = training_rows(task, style, t5_like, limit=None, max_tokens=64, architecture="seq2seq")
    for row in rows:
        rendered = task.render(style, t5_like, row.example)
        assert row.prompt == t5_like.encode(rendered.text)
        assert row.prompt.count(end) == row.answer.count(end) == 1
        assert (row.prompt[-1], row.answer[-1]) == (end, end)
        assert t5_like.decode(row.answer[:-1]).strip() == row.example.answer
    fed = as_dataset(rows, ["t"], "seq2seq")
    assert (fed[3]["input_ids"], fed[3]["labels"]) == (rows[3].prompt, rows[3].answer)


def test_each_side_of_an_encoder_decoder_is_cut_to_its_own_length_and_counted(t5_like, rows_of):
    rows = [{"question": "w " * 50, "answer": "b"}, {"question": "?", "answer": "c " * 50}]
    task, _ = rows_of(GENERATE, rows=rows)
    long_prompt, long_answer = training_rows(
        task, load_format("plain"), t5_like, limit=None, max_tokens=16, architecture="seq2seq"
    )
    end = t5_like.eos_token_id
    # Evaluation cuts the encoder's front, so its end stays.
    assert (len(long_prompt.prompt), long_prompt.prompt[-1], long_prompt.answer[-1]) == (16, end, end)
    assert long_prompt.cut > 0 and long_prompt.cut_answer == 0
    assert (len(long_answer.answer), long_answer.cut) == (16, 0)
    assert long_answer.cut_answer > 0 and end not in long_answer.answer
    told = mixture([long_prompt, long_answer])["t"]
    assert (told["truncated_rows"], told["truncated_answers"]) == (1, 1)


def test_rows_kept_aside_share_no_prompt_with_those_trained_on(rows_of):
    rows = [{"question": f"{n % 11}?", "answer": f"{n}"} for n in range(60)]
    _, made = rows_of(GENERATE, rows=rows)
    train, aside = split_validation(made, 12)
    assert len(train) + len(aside) == 60
    assert 0 < len(aside) <= 12
    assert {row.prompt_sha256 for row in train}.isdisjoint(row.prompt_sha256 for row in aside)
    # Cut to the same few tokens, they would still be told apart.
    assert {tuple(row.prompt) for row in train}.isdisjoint(tuple(row.prompt) for row in aside)


def test_which_rows_are_kept_aside_depends_on_their_content_alone(rows_of):
    rows = [{"question": f"{n}?", "answer": f"{n}"} for n in range(40)]
    _, made = rows_of(GENERATE, rows=rows)
    _, turned = rows_of(GENERATE, rows=rows[::-1])
    asked = [{row.example.fields["question"] for row in split_validation(part, 8)[1]} for part in (made, turned)]
    assert asked[0] == asked[1]
    assert len(asked[0]) == 8
    assert asked[0] != {f"{n}?" for n in range(8)}


def test_a_small_task_keeps_three_quarters_of_its_rows_to_train_on(rows_of):
    _, made = rows_of(GENERATE, rows=[{"question": f"{n}?", "answer": "1"} for n in range(9)])
    assert [len(part) for part in split_validation(made, 64)] == [7, 2]
    _, alike = rows_of(GENERATE, rows=[{"question": "1?", "answer": f"{n}"} for n in range(9)])
    assert [len(part) for part in split_validation(alike, 64)] == [9, 0]
    both = made + [evolve(row, task="u") for row in made]
    assert [row.task for row in split_validation(both, 64)[1]] == ["t", "t", "u", "u"]
