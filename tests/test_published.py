"""Published numbers of a recipe: what is refused at which line, and what shows in the numbers themselves."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError
from slmbench.merge_recipe import load_merge_recipe
from slmbench.metrics import own_scorer
from slmbench.published import PublishedNumber
from slmbench.recipe import Recipe, load_recipe

HEAD = """\
summary: Two adapters.
model: nano
adapters:
  sums: {tasks: [nano_arithmetic]}
  notes: {tasks: [nano_note]}
variants:
  other: {model: smollm2-135m}
  split:
    adapters: {words: {tasks: [nano_note]}}
evaluation: {suite: nano}
published:
"""
BERT = own_scorer("bertscore").values[0]
ENTRY = "value: 0.5, metric: rouge1, task: nano_note, adapter: notes, source: README, counted: by rouge_score"


def written(folder: Path, *entries: str, head: str = HEAD) -> str:
    path = folder / "mine.yaml"
    path.write_text(head + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return str(path)


def loaded(folder: Path, *entries: str) -> Recipe:
    return load_recipe(written(folder, *entries), default_catalog())


def numbers(folder: Path, *entries: str) -> tuple[PublishedNumber, ...]:
    return loaded(folder, *entries).published


def faults(folder: Path, *entries: str, head: str = HEAD) -> list[tuple[int, str]]:
    """(line, message) of everything that is wrong with a recipe's file."""
    with pytest.raises(DeclarationError) as error:
        load_recipe(written(folder, *entries, head=head), default_catalog())
    return [(problem.line, problem.message) for problem in error.value.problems]


def test_all_faults_of_all_entries_are_told_at_once_each_at_its_line(tmp_path) -> None:
    found = faults(
        tmp_path,
        ENTRY.replace("adapter: notes", "adapter: note"),
        ENTRY.replace("task: nano_note", "task: nano_notes"),
        ENTRY.replace("rouge1", "rouge_1"),
        ENTRY.replace("0.5", "75"),
        ENTRY.replace("0.5", "0.5, in_files: {value: -2, source: notebook}"),
    )
    assert [line for line, _ in found] == [12, 13, 14, 15, 16]
    told = [message for _, message in found]
    assert "no adapter 'note'; did you mean 'notes'?" in told[0]
    assert "unknown task 'nano_notes'; did you mean 'nano_note'?" in told[1]
    assert "task 'nano_note' has no metric 'rouge_1'; did you mean 'rouge1'?" in told[2]
    assert told[3] == "rouge1 is from 0 to 1, got 75; if that is percent, say `unit: percent`"
    assert told[4].startswith("rouge1 is from 0 to 1, got -2; if it was published so, say why it can't be in `fault`")


def test_a_number_needs_its_source_and_how_it_was_counted(tmp_path) -> None:
    found = faults(tmp_path, "value: 0.5, metric: rouge1, task: nano_note", ENTRY.replace("README", '""'))
    assert {(12, "missing key 'source'"), (12, "missing key 'counted'")} <= set(found)
    assert any(line == 13 and "source" in message for line, message in found)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY.replace("rouge1", "other"), "`metric: other` needs `called`, what the publication calls it"),
        (ENTRY.replace("rouge1", "latency, unit: percent"), "a latency is in seconds or milliseconds, not in percent"),
        (ENTRY.replace("rouge1", "rouge1, unit: seconds"), "seconds go with `metric: latency` or `other`"),
        (ENTRY.replace("0.5", "[0.5, 0.4]"), "a range goes from a number to a larger one, got 0.5 and 0.4"),
        (ENTRY.replace("0.5", "about half"), "expected a number"),
        (ENTRY + ", under: {ranks: 4}", "unknown key 'ranks'; did you mean 'rank'?"),
        (ENTRY.replace("README", '"  "'), "source: string should have at least 1 character"),
        (ENTRY.replace("by rouge_score", '" "'), "counted: string should have at least 1 character"),
        (ENTRY.replace("README", "a" * 2001), "source: string should have at most 2000 characters"),
        (ENTRY + f", fault: {'a' * 2001}", "fault: string should have at most 2000 characters"),
        (ENTRY.replace("0.5", "-3").replace("rouge1", "latency"), "a latency is longer than nothing, got -3"),
        (
            ENTRY.replace("rouge1", "latency") + ", in_files: {value: [-1, 2], source: a}",
            "longer than nothing, got [-1",
        ),
        (ENTRY + ", under: {format: chatt}", "unknown format 'chatt'; did you mean 'chat'?"),
        (ENTRY + ", under: {targets: atention}", "no layers are called 'atention'; did you mean 'attention'?"),
        (ENTRY.replace("nano_note", "arc_easy").replace("rouge1", "bits_per_byte").replace("0.5", "-1"), "at least 0"),
        (ENTRY.replace("nano_note", "aci_bench").replace("rouge1", BERT).replace("0.5", "87"), "unit: percent"),
        (ENTRY + ", model: nanno", "no model 'nanno' here; did you mean 'nano'?"),
        (ENTRY + ", model: smollm2-135n", "no model 'smollm2-135n' here; did you mean 'smollm2-135m'?"),
        (ENTRY.replace("rouge1", "accuracy"), "what slmbench doesn't measure is `metric: other`, with `called`"),
    ],
)
def test_what_an_entry_can_t_be_is_refused_with_a_way_out(tmp_path, entry, said) -> None:
    [(line, message)] = faults(tmp_path, entry)
    assert line == 12 and said in message


def test_layers_are_listed_or_called_as_people_do_and_another_size_is_another_model(tmp_path) -> None:
    listed, called, own = numbers(
        tmp_path,
        ENTRY + ", under: {targets: [v_proj, q_proj, o_proj, k_proj], format: plain}",
        ENTRY + ", under: {targets: mlp}, model: smollm2-360m",
        ENTRY + ", under: {targets: [q_proj, v_proj]}",
    )
    assert listed.under.targets == "attention" and called.under.targets == "mlp"
    assert own.under.targets == "attention: q_proj, v_proj"
    assert called.model == "smollm2-360m"


def test_percent_ranges_and_seconds_are_turned_into_the_metric_s_own_scale(tmp_path) -> None:
    share, reach, wait, out = numbers(
        tmp_path,
        ENTRY.replace("0.5", "64.56, unit: percent"),
        "value: [91, 94], unit: percent, metric: other, called: accuracy, task: nano_note, source: a, counted: b",
        "value: 80900, unit: milliseconds, metric: latency, task: nano_note, source: a, counted: b",
        ENTRY.replace("0.5", "75, fault: printed and never measured"),
    )
    assert (share.low, share.high, share.written) == (0.6456, 0.6456, "64.56%")
    assert (reach.low, reach.high, reach.written, reach.key) == (0.91, 0.94, "91\u201394%", "nano_note/accuracy")
    assert wait.low == pytest.approx(80.9) and wait.written == "80900 ms"
    assert out.low == 75 and out.marks == ("printed and never measured",)


def test_of_another_model_an_adapter_may_have_any_name_and_variants_own_theirs(tmp_path) -> None:
    found = numbers(
        tmp_path,
        ENTRY.replace("adapter: notes", "adapter: theirs, model: a large one"),
        ENTRY.replace("adapter: notes", "adapter: words, model: smollm2-135m"),
    )
    assert [one.whose for one in found] == ["a large one + theirs", "smollm2-135m + words"]
    assert faults(tmp_path, ENTRY.replace("adapter: notes", "adapter: theirs, model: smollm2-135m"))


def test_an_entry_without_a_model_stays_the_file_s_own_in_a_variant_with_another(tmp_path) -> None:
    path = written(tmp_path, ENTRY)
    assert load_recipe(path, default_catalog(), variant="other").published[0].model == "nano"
    twin = load_recipe(path, default_catalog()).for_twin()
    assert twin.published == load_recipe(path, default_catalog()).published


def test_published_numbers_change_no_training(tmp_path) -> None:
    plain = load_recipe(written(tmp_path, head=HEAD.replace("published:\n", "")), default_catalog())
    assert loaded(tmp_path, ENTRY).digest_of("notes") == plain.digest_of("notes")


@pytest.mark.parametrize("how", ["variants:\n  split: {published: []}\n", "sweep: {published: [[], [1]]}\n"])
def test_no_variant_and_no_sweep_changes_them(tmp_path, how) -> None:
    head = HEAD.partition("variants:")[0] + how + "evaluation: {suite: nano}\npublished:\n"
    assert any("published" in message for _, message in faults(tmp_path, ENTRY, head=head))


def test_the_same_digits_on_two_rows_or_of_two_metrics_are_told(tmp_path) -> None:
    one, other, alone, reading = numbers(
        tmp_path,
        ENTRY.replace("0.5", "0.6456"),
        "value: 64.56, unit: percent, metric: exact_match/strict, task: nano_arithmetic, source: a, counted: b",
        ENTRY.replace("0.5", "0.12"),
        ENTRY.replace("0.5", "0.6456").replace("README", "report"),
    )
    assert one.remarks == ("the same digits as nano_arithmetic/exact_match/strict of nano",)
    assert other.remarks == ("the same digits as nano_note/rouge1 of nano + notes",)
    assert alone.remarks == ()  # Two digits say nothing.
    assert reading.remarks == one.remarks  # The same score, told twice, agrees with itself.


def test_which_of_two_equal_numbers_is_wrong_is_told_of_that_one_alone(tmp_path) -> None:
    right, wrong = numbers(
        tmp_path, ENTRY.replace("0.5", "0.6456"), ENTRY.replace("0.5", "0.6456, model: big, fault: the small one's")
    )
    assert right.marks == ()
    assert wrong.marks == ("the small one's", "the same digits as nano_note/rouge1 of nano + notes")


def test_an_order_that_no_outputs_can_give_is_told_of_one_source_alone(tmp_path) -> None:
    code = "model: m, task: human_eval, counted: ten samples"
    first, tenth, elsewhere, two, one = numbers(
        tmp_path,
        f"value: 0.3, metric: pass@1, source: README, {code}",
        f"value: 0.2, metric: pass@10, source: README, {code}",
        f"value: 0.1, metric: pass@10, source: report, {code}",
        ENTRY.replace("rouge1", "rouge2"),
        ENTRY.replace("0.5", "0.4"),
    )
    assert first.remarks == ("above human_eval/pass@10 of the same row (0.2), which no outputs can give",)
    assert two.remarks == ("above nano_note/rouge1 of the same row (0.4), which no outputs can give",)
    assert (tenth.remarks, elsewhere.remarks, one.remarks) == ((), (), ())


def test_a_merge_recipe_has_them_too_and_those_of_its_training(tmp_path) -> None:
    written(tmp_path, ENTRY)
    merge = textwrap.dedent(
        """\
        kind: merge
        summary: Both become one.
        train: mine.yaml
        inputs: [sums, notes]
        merges:
          soup: {method: soup}
        published:
          - {value: 0.25, metric: rouge1, task: nano_note, adapter: ADAPTER, source: report, counted: by hand}
        """
    )
    path = tmp_path / "both.yaml"
    path.write_text(merge.replace("ADAPTER", "soup"))
    recipe = load_merge_recipe(str(path), default_catalog())
    assert [one.whose for one in recipe.published] == ["nano + soup", "nano + notes"]
    soup, notes = (one.making for one in recipe.published)
    assert soup and notes and recipe.train and soup.merged == {("soup", ("sums", "notes"))}
    assert recipe.train.digest_of("notes") in notes.digests
    changed = load_merge_recipe(str(path), default_catalog(), ["merges.soup.method=ties", "train.set.optim.steps=1"])
    assert changed.published == recipe.published and changed.train
    assert changed.train.digest_of("notes") not in notes.digests
    path.write_text(merge.replace("ADAPTER", "soap"))
    with pytest.raises(DeclarationError, match=r"8:.*no adapter 'soap'; did you mean 'soup'"):
        load_merge_recipe(str(path), default_catalog())


@pytest.mark.parametrize(
    ("value", "stderr", "said"),
    [
        ("0.6", "0.0155", None),  # sqrt(.6 * .4 / 999) is .01550.
        ("0.6", "0.016", None),  # Rounded.
        ("60, unit: percent", "1.55", None),
        ("0.6", "0.0119", "0.0119, is not that of 1000 items, right or wrong, of this mean, 0.0155"),
        ("0.6", "0.0201", "0.0201, is above the largest of 1000 items of this mean, 0.0155"),
        ("0.6", "0.02", None),  # Of two digits, as .0155 is.
        ("1.0", "0.02", None),
    ],
)
def test_a_standard_error_that_right_or_wrong_items_can_t_have_is_told(tmp_path, value, stderr, said) -> None:
    entry = "metric: exact_match/strict, task: nano_arithmetic, source: a, counted: b"
    [found] = numbers(tmp_path, f"value: {value}, stderr: {stderr}, n: 1000, {entry}")
    assert [mark.removeprefix("its standard error, ") for mark in found.marks] == ([said] if said else [])


def test_a_standard_error_of_scores_between_may_be_small_and_not_too_large(tmp_path) -> None:
    small, large = numbers(
        tmp_path, ENTRY + ", stderr: 0.001, n: 100", ENTRY.replace("0.5", "0.51") + ", stderr: 0.0901, n: 100"
    )
    assert small.marks == () and "is above the largest of 100 items" in large.marks[0]
    [(line, message)] = faults(tmp_path, ENTRY + ", stderr: 0.1")
    assert (line, message) == (12, "a standard error needs `n`, the number of items that it is of")
