"""What plugins do wrong, and what a person is told of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.checks import check_plugins, check_task
from slmbench.cli import main
from slmbench.errors import SlmbenchError
from slmbench.formats import load_format
from slmbench.paths import bundled_root
from slmbench.task import formats_of, load_task
from slmbench.values import Output

TASK = """summary: A sum.
version: 1
license: cc0-1.0
dataset:
  loader: {name: few, splits: [test]}
  columns: [q, a]
kind: generate
train_split: null
prompt: {user: "{{ q }}"}
answer: "{{ a }}"
metrics: [mine]
"""
LOADER = """import slmbench

@slmbench.loader("few", summary="Two rows.", version="1")
def few(split, folder):
    yield {"q": "1+1?", "a": "2"}
    yield {"q": "1+2?", "a": "3"}

"""
METRIC = """
@slmbench.metric("mine", summary="A score.", version="1"FACTS)
def mine(output, references):
    BODY
"""


def metric(body: str, facts: str = "") -> str:
    return LOADER + METRIC.replace("FACTS", facts).replace("BODY", body)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """write(plugin.py, task.yaml, name) -> the task's folder, below SLMBENCH_PATH and the folder one is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMBENCH_PATH", "here")

    def made(plugin: str, task: str = TASK, name: str = "sums") -> Path:
        folder = tmp_path / "here" / "tasks" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.yaml").write_text(task)
        (folder / "plugin.py").write_text(plugin)
        (folder / "samples.jsonl").write_text("".join(f'{{"q": "{n}+1?", "a": "{n + 1}"}}\n' for n in range(6)))
        return folder

    return made


def score(text: str = "2") -> object:
    task = load_task("sums")
    return task.score(task.examples("test")[0], Output(text=text))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            metric("raise KeyError('x')"),
            r"here/tasks/sums/plugin\.py:11: metric 'mine': KeyError: 'x' \(task 'sums', item 'test-0'\)",
        ),
        (metric("return float('nan')"), r"plugin\.py:9: metric 'mine': mine is NaN \(task 'sums', item 'test-0'\)"),
        (metric("return float('inf')"), r"metric 'mine': mine is infinite \(task"),
        (
            metric("return 0.5", ", binary=True"),
            r"metric 'mine': mine is 0\.5; of a binary metric it is 0 or 1 \(task 'sums', item 'test-0'\)",
        ),
        (metric("return 2"), r"metric 'mine': mine is 2, outside of its range 0 to 1 \(task"),
        (metric("import sys; sys.exit(0)"), r"plugin\.py:11: metric 'mine': SystemExit: 0 \(task"),
        (metric("return {1}", ", pool=len"), r"metric 'mine': what an item adds is not a JSON value"),
        (metric("return 'good'"), r"metric 'mine': mine is a str; a metric returns numbers \(task"),
        (metric("import numpy; return numpy.zeros(2)"), r"metric 'mine': mine is a ndarray; a metric returns numbers"),
        (metric("return {1: 0.5}", ", values=('1',)"), r"metric 'mine': expected the values 1, got 1 \(task"),
        (
            metric("return 1", ", remarks=lambda e, o: 3"),
            r"'mine': remarks: expected a dict of .* got 3 \(task 'sums', it",
        ),
        (
            metric("return 1", ", remarks=lambda e, o: {'odd': 'x'}"),
            r"remarks: expected a dict of texts and counts, got",
        ),
        (
            metric("return 1", ", remarks=lambda e, o: e.nothing"),
            r"plugin\.py:9: metric 'mine': remarks: AttributeError",
        ),
        (metric("return None"), r"metric 'mine': mine is a NoneType; a metric returns numbers \(task"),
        (
            metric("return {'em': 1.0}"),
            r"metric 'mine': expected the values mine, got em \(task 'sums', item 'test-0'\)",
        ),
        (
            metric("return {'a': 1.0}", ", values=('a', 'b')"),
            r"metric 'mine': expected the values a, b, got a \(task 'sums', item 'test-0'\)",
        ),
        (
            metric("return [1.0] * (len(output) + 1)", ", at_once=True"),
            r"metric 'mine': returned 2 values for 1 items \(task 'sums', item 'test-0'\)",
        ),
        (
            metric("return 1", ", pool=lambda parts: {'other': 1.0}"),
            r"metric 'mine': expected the values mine, got other \(task 'sums', the whole run\)",
        ),
    ],
)
def test_a_metric_that_does_not_do_what_it_says_is_told_with_task_item_and_line(
    write, plugin: str, message: str
) -> None:
    write(plugin)
    with pytest.raises(SlmbenchError, match=message):
        score()
        task = load_task("sums")
        task.scorers[0].remarks(task.examples("test")[0], Output(text="2"))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            metric("return 1").replace("references", "expected"),
            r"metric 'mine' asks for 'expected'.*a metric's parameters are output",
        ),
        (metric("return 1", ", rnage=(0, 1)"), r"metric 'mine' has no 'rnage'; did you mean 'range'\?"),
        (metric("return 1", ", values=()"), r"metric 'mine': values is a list of names, each once; got \(\)"),
        (metric("return 1", ", at_once=True, pool=len"), r"metric 'mine': at_once and pool don't go together"),
        (
            metric("return 1").replace('version="1")\ndef mine', 'version="1+a")\ndef mine'),
            r"version is a text without a \+",
        ),
        (
            metric("return 1")
            + METRIC.replace("FACTS", "").replace('"mine"', '"pass@7"').replace("def mine", "def seven"),
            r"metric 'pass@7': pass@k of every k is slmbench's own",
        ),
        (
            metric("return 1", ", values=('exact_match',)"),
            r"metrics 'exact_match' and 'mine' both give a value 'exact_match'",
        ),
        *(
            (
                metric("return 1", f", {fact}={got!r}"),
                rf"sums/plugin\.py:9: while loading: .*'mine': {fact} is {wanted}",
            )
            for fact, got, wanted in (
                ("higher_is_better", "false", "True or False; got 'false'"),
                ("binary", 1, "True or False; got 1"),
                ("samples", "2", "a whole number from 1 on; got '2'"),
                ("samples", 0, "a whole number from 1 on; got 0"),
                ("pool", "sum", "a function; got 'sum'"),
                ("citation", 3, "a text; got 3"),
                ("range", "01", r"\(lowest, highest\) or None; got '01'"),
                ("values", "em", "a list of names, each once; got 'em'"),
            )
        ),
        (
            metric("return 1", ", factory=True"),
            r"plugin\.py:9: while loading: ValueError: metric 'mine' has no 'factory'",
        ),
        (metric("return 1", ", binary=True, range=None"), r"'mine': binary says that each item's value is an end of"),
        (metric("return 1", ", range=(1, 0)"), r"metric 'mine': range is \(lowest, highest\) or None; got \(1, 0\)"),
        (
            metric("return 1").replace('"A score."', '""'),
            r"plugin\.py:9: while loading: ValueError: metric 'mine': summary is one line",
        ),
        (metric("return 1").replace('"mine"', '"squad"'), r"unknown metric 'mine'"),
        (
            metric("return 1")
            + METRIC.replace("FACTS", "").replace("BODY", "return 0").replace("def mine", "def other"),
            r"plugin\.py:\d+:1: metric 'mine' is registered twice: here and in here/tasks/sums/plugin\.py:9; rename one",  # noqa: E501
        ),
    ],
)
def test_a_registration_that_is_none_is_refused_when_the_task_is_loaded(write, plugin: str, message: str) -> None:
    write(plugin, TASK.replace("[mine]", "[exact_match, mine]"))
    with pytest.raises(SlmbenchError, match=message):
        load_task("sums")


def test_a_name_that_slmbench_has_is_refused_with_both_places(write) -> None:
    write(metric("return 1").replace('"mine"', '"squad"'), TASK.replace("[mine]", "[squad]"))
    with pytest.raises(
        SlmbenchError,
        match=r"sums/plugin\.py:9:1: metric 'squad' is registered twice: here and in slmbench's own slmbench/metrics/squad\.py; rename yours",  # noqa: E501
    ):
        load_task("sums")


@pytest.fixture
def shared(tmp_path: Path):
    """shared(name, source): a file of `plugins/`, which all tasks see."""

    def made(name: str, source: str) -> None:
        folder = tmp_path / "here" / "plugins"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("import slmbench\n" + source)

    return made


SHARED = METRIC.replace("FACTS", "").replace("BODY", "return 1.0").replace('"mine"', '"shared"')
TWICE = r"here/plugins/b\.py:3:1: metric 'shared' is registered twice: here and in here/plugins/a\.py:3; rename one"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.py": SHARED, "b.py": SHARED}, TWICE),
        ({"a.py": SHARED + "\ndef f(:\n"}, r"here/plugins/a\.py:7:7: Python syntax: "),
        ({"a.py": SHARED + "\nprint(no_such_name)\n"}, r"here/plugins/a\.py:7: while loading: NameError: "),
        (
            {"a.py": SHARED.replace("references", "expected")},
            r"here/plugins/a\.py:3: metric 'shared' asks for 'expected'",
        ),
        ({"a.py": SHARED.replace('version="1"', 'version=""')}, r"here/plugins/a\.py:3: while loading: ValueError: "),
    ],
)
def test_a_broken_file_for_all_tasks_stops_those_alone_that_need_its_names(
    write, shared, files: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(metric("return float(output.strip() == references[0])"))
    for name, source in files.items():
        shared(name, source)
    assert load_task("sums").scorers[0].name == "mine"
    assert re.search(message, capsys.readouterr().err) or "asks for" in message  # Of its tasks to find out.
    write(metric("return 1.0"), TASK.replace("[mine]", "[mine, shared]"), "needs")
    with pytest.raises(SlmbenchError, match=message):
        load_task("needs")
    [report] = check_plugins(default_catalog())
    assert report.task == f"here/plugins/{list(files)[-1]}"
    [problem] = report.problems
    assert problem.path == report.task and problem.line in (3, 7)


def test_checking_all_checks_the_plugins_of_all_tasks_too(
    write, shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundled = tmp_path / "bundled"  # The models without the tasks, which take their time.
    bundled.mkdir()
    (bundled / "registry").symlink_to(os.path.join(bundled_root(), "registry"))
    monkeypatch.setattr("slmbench.paths.bundled_root", lambda: str(bundled))
    write(metric("return float(output.strip() == references[0])"))
    assert main(["check", "--all"]) == 0
    shared("a.py", SHARED + "\nprint(no_such_name)\n")
    write(metric("return 1.0"), TASK.replace("[mine]", "[mine, shared]"), "needs")
    assert main(["check", "sums"]) == 0
    capsys.readouterr()
    assert main(["check", "--all", "--json"]) == 2
    needs, sums, broken = json.loads(capsys.readouterr().out)
    assert sums["ok"] and needs["problems"] == broken["problems"]
    assert broken["problems"] == [
        {
            "path": "here/plugins/a.py",
            "line": 7,
            "message": "while loading: NameError: name 'no_such_name' is not defined",
        }
    ]


def test_a_broken_file_is_listed_as_broken_and_shown_as_an_error(
    write, shared, capsys: pytest.CaptureFixture[str]
) -> None:
    write(metric("return 1.0"))
    shared("a.py", SHARED + "\ndef f(:\n")
    assert main(["list", "metrics"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shared ")]
    assert re.fullmatch(r"shared +here/plugins/a\.py +\(broken: here/plugins/a\.py:7:7: Python syntax: .*\)", line)
    assert main(["show", "metric", "shared"]) == 2
    assert "here/plugins/a.py:7:7: Python syntax" in capsys.readouterr().err


def test_a_format_of_a_tasks_own_is_for_that_task_alone_and_one_name_is_one_format(write, shared) -> None:
    shape = (
        '\n@slmbench.format("shape", summary="s", version="1")\ndef shape(prompt, tokenizer):\n    return prompt.user\n'
    )
    write(metric("return 1") + shape)
    write(metric("return 1"), name="more")
    sums, more = load_task("sums"), load_task("more")
    assert load_format("shape", formats_of([sums])).name == "shape"
    alone = r"format 'shape' is defined in here/tasks/sums/plugin\.py:1[34] for that task alone, and more can't be asked in it; move it to plugins/"  # noqa: E501
    for formats in (formats_of([sums, more]), formats_of([more], default_catalog())):
        assert load_format("plain", formats).name == "plain"
        with pytest.raises(SlmbenchError, match=alone):
            load_format("shape", formats)
    with pytest.raises(SlmbenchError, match="unknown format 'shape'"):
        load_format("shape", formats_of([more]))
    write(metric("return 1") + shape, name="more")
    formats = formats_of([sums, load_task("more")])
    with pytest.raises(SlmbenchError, match=r"format 'shape' is registered twice: here and in .*; rename one"):
        load_format("shape", formats)
    for name in ("sums", "more"):
        write(metric("return 1"), name=name)
    shared("a.py", shape)
    assert load_format("shape", formats_of([load_task("sums"), load_task("more")])).name == "shape"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "yield {'q': '1', 'a': '2'}\n    yield {'q': '1', 'b': '2'}",
            r"row 1: has the columns q, b, but the rows before have q, a; a loader's rows have one set",
        ),
        ("yield {'q': {'x'}, 'a': '2'}", r"row 0: column 'q' holds a set; a loader yields texts"),
        ("yield ('1', '2')", r"row 0: expected a dict with text keys, got tuple"),
        (
            "yield {'q': '1', 'a': '2'}\n    raise OSError('disk gone')",
            r"plugin\.py:6: loader 'few': OSError: disk gone \(data set 'sums', split 'test', row 1\)",
        ),
        ("return 3", r"plugin\.py:3: loader 'few': TypeError: 'int' object is not iterable"),
    ],
)
def test_a_loader_whose_rows_are_none_is_told_with_the_row(write, body: str, message: str) -> None:
    plugin = metric("return 1")
    first, last = plugin.index("    yield"), plugin.index("\n\n\n@slm")
    write(plugin[:first] + "    " + body + plugin[last:])
    with pytest.raises(SlmbenchError, match=message):
        load_task("sums").examples("test")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("{name: fiew, splits: [test]}", r"sums/task\.yaml:5:12: unknown loader 'fiew'; did you mean 'few'\?"),
        (
            "{name: few, splits: [test], options: {fle: x}}",
            r"loader 'few' \(here/tasks/sums/plugin\.py:3\) takes no 'fle'",
        ),
        (
            "{name: few, splits: [test], options: {split: train}}",
            r"loader\.options\.split can't be set in a declaration",
        ),
        ("{name: few, splits: []}", r"task\.yaml:5:23"),
    ],
)
def test_a_declaration_of_a_loader_that_does_not_fit_is_told(write, declared: str, message: str) -> None:
    write(metric("return 1"), TASK.replace("{name: few, splits: [test]}", declared))
    with pytest.raises(SlmbenchError, match=message):
        load_task("sums").examples("test")


@pytest.mark.parametrize(
    ("body", "facts", "message"),
    [
        ("raise KeyError('x')", "", r"plugin\.py:\d+: format 'shape': render: KeyError: 'x'"),
        ("return 3", "", r"format 'shape': render: expected a text, or \(text, delimiter\); got int"),
        ("return 'a'", ", write=lambda target: None", r"format 'shape': write: expected a text, got NoneType"),
        ("return 'a'", ", read=lambda output, reasoned: 3", r"format 'shape': read: expected a text, got int"),
        (
            "return 'a'",
            ", stop=lambda declared: None",
            r"format 'shape': stop: expected a list of texts, .* got NoneType",
        ),
        (
            "return 'a'",
            ", stop=lambda declared: 'END'",
            r"'shape': stop: expected a list of texts, none empty, got str",
        ),
        (
            "return 'a'",
            ", stop=lambda declared: ['']",
            r"'shape': stop: expected a list of texts, none empty, got \[''\]",
        ),
        ("return 'a'", ", partial=lambda output, reasoned: 3", r"'shape': partial: expected a text or None, got int"),
        ("return 'a'", ", ends_turn=lambda tokenizer: 2", r"'shape': ends_turn: expected a list of token ids, got int"),
        ("return 'a'", ", ends_turn=lambda tokenizer: [-1]", r"'shape': ends_turn: expected a list of .* got \[-1\]"),
        ("return 'a'", ", template_of=lambda tokenizer: None", r"'shape': template_of: expected a text, got NoneType"),
        (
            "return 'a'",
            ", special_tokens='no'",
            r"plugin\.py:\d+: .*'shape': special_tokens is True, False or None; got",
        ),
        ("return 'a'", ", write=7", r"plugin\.py:\d+: while loading: .*'shape': write is a function; got 7"),
        ("return 'a'", ", kind='turn'", r"kind is completion, turns or object; got 'turn'; did you mean 'turns'\?"),
        ("return 'a'", ", reed=str", r"format 'shape' has no 'reed'; did you mean 'read'\?"),
    ],
)
def test_a_format_that_does_not_do_what_it_says_is_told(write, body: str, facts: str, message: str) -> None:
    write(
        metric("return 1")
        + f'\n@slmbench.format("shape", summary="s", version="1"{facts})\ndef shape(prompt, tokenizer):\n    {body}\n'
    )
    with pytest.raises(SlmbenchError, match=message):
        task = load_task("sums")
        style = load_format("shape", task.plugins)
        example = task.examples("test")[0]
        style.render(task.prompt(example), None)
        style.write(task.target(example))
        style.read("2", False)
        style.stop([])
        style.partial("2", False)
        style.template_of(None) if style.template_of else None
        style.ends_turn(None)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ("partial=lambda output, reasoned: 3", "a text or None, got int"),
        ("template_of=lambda t: None", "a text, got None"),
    ],
)
def test_check_asks_a_format_for_what_few_runs_do(write, fact: str, said: str) -> None:
    shape = f'\n@slmbench.format("shape", summary="s", version="1", {fact})\ndef shape(prompt, tokenizer): return "a"\n'
    write(metric("return float(output.strip() == references[0])") + shape)
    report = check_task("sums", default_catalog())
    assert [said in one.message for one in report.problems] == [True] and report.formats["shape"] == "failed"


def test_an_untrusted_folder_that_registers_a_metric_is_refused_and_nothing_of_it_ran(
    write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(metric("return float(output.strip() in references)") + "\nopen('canary', 'w')\n")
    monkeypatch.delenv("SLMBENCH_PATH")
    assert main(["check", str(folder)]) == 3
    assert "add --trust" in capsys.readouterr().err
    assert not os.path.exists("canary")
    report = check_task(str(folder), default_catalog(), run_plugin=False)
    assert report.ok and not os.path.exists("canary")
    assert main(["check", str(folder), "--trust"]) == 0
    assert os.path.exists("canary")


BLANK = """
@slmbench.format("blank", summary="A text that ends in a blank.", version="1")
def blank(prompt, tokenizer):
    return f"{prompt.user} Answer:END", DELIMITER
"""


@pytest.mark.parametrize(("end", "delimiter", "bad"), [(" ", '""', True), ("", '" "', False)])
def test_a_prompt_whose_tokens_are_not_the_first_ones_of_prompt_and_answer_is_found(
    write, end: str, delimiter: str, bad: bool
) -> None:
    plugin = metric("return float(output.strip() == references[0])")
    folder = write(
        plugin + BLANK.replace("END", end).replace("DELIMITER", delimiter), TASK.replace("{{ a }}", "so {{ a }}")
    )
    report = check_task(str(folder), default_catalog())
    said = "\n".join(map(str, report.problems))
    assert ("format 'blank': the prompt's tokens are not the first tokens of prompt and answer" in said) is bad
    assert report.formats["blank"] == ("failed" if bad else "ok")
    if bad:
        assert "they differ from token" in said and "' ' against ' s'" in said
        assert "end the prompt elsewhere, for example after a colon" in said


def test_what_a_plugin_imports_is_registered_with_the_digest_of_its_own_file(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ward_metrics.py").write_text(
        "import slmbench\n" + METRIC.replace("FACTS", "").replace("BODY", "return 1.0")
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    write(
        LOADER + "from ward_metrics import mine\nunhashable = type('T', (), {'__call__': print, '__hash__': None})()\n"
    )
    before = load_task("sums").scorers[0]
    assert before.name == "mine"
    plugin = tmp_path / "here" / "tasks" / "sums" / "plugin.py"
    plugin.write_text(plugin.read_text() + "# Another version.\n")
    assert load_task("sums").scorers[0].version == before.version
    code = tmp_path / "ward_metrics.py"
    code.write_text(code.read_text() + "# Another version.\n")
    assert load_task("sums").scorers[0].version != before.version


def test_a_function_that_code_of_elsewhere_made_has_the_digest_of_the_file_that_marks_it(write) -> None:
    made = "from attrs import frozen\nscope = {'__name__': 'elsewhere'}\nexec('def mine(output): return 1.0', scope)\n"
    write(LOADER + made + 'mine = slmbench.metric("mine", summary="s", version="1")(scope["mine"])\n')
    (digest,) = (scorer.version.removeprefix("1-") for scorer in load_task("sums").scorers)
    assert digest == hashlib.sha256(Path("here/tasks/sums/plugin.py").read_bytes()).hexdigest()[:12]


def test_rows_of_a_loader_that_fills_one_list_anew_stay_apart(write) -> None:
    body = "one = []\n    for n in (1, 2):\n        one[:] = [n]\n        yield {'q': one, 'a': 'x'}"
    plugin = metric("return 1")
    first, last = plugin.index("    yield"), plugin.index("\n\n\n@slm")
    write(plugin[:first] + "    " + body + plugin[last:])
    assert [row["q"] for row in load_task("sums").rows("test").rows] == [[1], [2]]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import words_beside", "words_beside"),
        ("from words_beside import count", "words_beside.count"),
        ("def _later():\n    from words_beside import count", "words_beside.count"),
        ("from . import words_beside", ".words_beside"),
        ("from .words_beside import count", ".words_beside.count"),
        ("import lists_beside.deep", "lists_beside.deep"),
    ],
)
def test_a_file_beside_a_plugin_is_refused_by_name_even_if_python_would_find_it(
    write, shared, monkeypatch: pytest.MonkeyPatch, line: str, name: str
) -> None:
    folder = write(metric("return 1.0") + line)
    (folder / "words_beside.py").write_text("count = len\n")
    (folder / "lists_beside").mkdir()
    (folder / "lists_beside" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(
        SlmbenchError, match=rf"sums/plugin\.py:1\d:1: imports '{re.escape(name)}' from beside it, which"
    ):
        load_task("sums")


def test_a_file_that_is_called_as_one_of_pythons_own_hides_nothing(write) -> None:
    folder = write(metric("import statistics; return float(statistics.mean([0, 1]))"))
    (folder / "statistics.py").write_text("")
    assert [one.value for one in score()] == [0.5]


def test_what_a_packages_plugin_imports_of_its_package_is_in_its_digest(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the version of its metric and in the digest of a task whose plugin.py lies in the package."""
    package = tmp_path / "kit_of_ours"
    for name, text in {
        "__init__.py": "",
        "parts/__init__.py": "from .. import outer",
        "parts/inner.py": "def value():\n    from .deeper import one\n    return one\n",
        "parts/deeper.py": "one = 1.0\n",
        "parts/unused.py": "",
        "outer.py": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    task = write(metric("from kit_of_ours.parts import inner; return inner.value()"))
    shutil.move(task, package / "tasks" / "sums")
    monkeypatch.setenv("SLMBENCH_PATH", str(package))

    def known() -> tuple[str, str]:
        task = load_task("sums")
        assert [one.value for one in task.score(task.examples("test")[0], Output(text="2"))] == [1.0]
        return task.scorers[0].version, task.digest(load_format("plain"))

    before = known()
    for name in ("parts/unused.py", "parts/inner.py", "parts/deeper.py", "outer.py", "parts/__init__.py"):
        (package / name).write_text((package / name).read_text() + "\n# Another version.\n")
        version, digest = known()
        changed = name != "parts/unused.py"
        assert (version != before[0], digest != before[1]) == (changed, changed), name
        before = version, digest
