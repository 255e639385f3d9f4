"""Seconds and peak memory of our engine (SharedPrefixLM) and of lm-eval's HFLM, on the same requests, in one run.

    SLMBENCH_DATA=mirror python benchmarks/engine_speed.py [--only CASE] [--documents N] [--layers N] [--model PATH]

SmolLM2-135M's geometry with random weights in float32, 6 of its layers and all 30, and the tokenizer of
training_speed.py: a byte-level BPE of 32,768 pieces, trained on the mirror's texts. The weights are drawn with a
deviation of 0.04, twice the usual one, so that the likeliest token stands clear of the next one. Where `--model` or
SLMBENCH_SMOLLM2 names SmolLM2-135M-Instruct, a folder or a GGUF file, the cases `own-...` are run on its own weights in
float32, with its own tokenizer.

Requests are those of our tasks on the mirror's rows, plain format. Where `train` has fewer than 40 rows (HellaSwag and
ARC in a small mirror), the last 40 of the evaluated rows are set apart for shots, and the documents are the first of
the others. MMLU's shots are those of an item's own subject, of which a small mirror has few items: every item is given
one subject here, the one whose five shots are of middle length, as if the 100 documents were of one exam.

Both sides get the same model object and fresh requests, a new engine for each run, and a run on two documents before,
which doesn't count. HFLM comes first; as ours has glibc keep freed blocks, HFLM is the faster for it from the second
case on. The time is that of the whole call, tokenising included. A side that needs less than 20 s is run three times,
and the median counts. HFLM is run at each batch size that its case names, and the fastest counts; the two long many-
shot cases have 8 alone. Ours has the batch size at which HFLM was fastest, in generation one of its own. Peak memory
is that of a fresh process for each side, which loads the model and runs that side alone, at the batch sizes that
counted. With sampling the two sides draw other texts, so outputs are compared where decoding is greedy. Where a
log-likelihood is further from HFLM's than 1e-4, both sides' distance from the same sum in float64 is printed, and it is
missed only if ours is that far off.

The lines at the end say how far the make-up of a batch moves a log-likelihood in bfloat16. float32 stands there for the
same weights, rounded to bfloat16, computed in float32, one request at a time. A figure that isn't reached is marked
`missed`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from training_speed import tokenizer_of

from slmbench.catalog import default_catalog
from slmbench.evaluation._harness import generation_kwargs, render_all
from slmbench.formats import load_format
from slmbench.machine import peak_memory_bytes
from slmbench.models import load_tokenizer, resolve_model
from slmbench.task import Task, load_task
from slmbench.values import Example, Output
from slmbench.workflow.quiet import quiet_libraries

HELD_OUT = 40
DEVIATION = 0.04
SHORT_S = 20
RUNS = 3
TOLERANCE_NATS = 1e-4
ADAPTERS = 4
BF16_DOCUMENTS, BF16_LAYERS = 20, 6
MIRRORED = ("hellaswag", "arc_challenge", "mmlu", "gsm8k", "human_eval")


@frozen
class Case:
    """One comparison. wanted: HFLM's seconds / ours. batches: HFLM's, the fastest counts. own: our batch; None for
    HFLM's. memory: with how many documents peak memory is measured. adapters: how many are scored beside the base.
    """

    name: str
    task: str
    shots: int
    documents: int
    layers: int
    wanted: float
    batches: tuple[int, ...] = (8, 32)
    own: int | None = None
    max_tokens: int = 0
    samples: int = 1
    temperature: float = 0.0
    memory: int = 0
    adapters: int = 0

    @property
    def is_real(self) -> bool:
        """Whether it is run on a real model's own weights."""
        return self.name.startswith(OWN)


CASES = (
    Case("hellaswag-0", "hellaswag", 0, 100, 30, 3, memory=100),
    Case("hellaswag-10", "hellaswag", 10, 100, 6, 32, batches=(8,), memory=8),
    Case("arc-25", "arc_challenge", 25, 100, 6, 45, batches=(8,), memory=4),
    Case("mmlu-5", "mmlu", 5, 100, 6, 4, memory=20),
    Case("gsm8k-5", "gsm8k", 5, 50, 6, 3, batches=(8, 16, 32), own=32, max_tokens=64, memory=50),
    Case(
        "human_eval-0",
        "human_eval",
        0,
        20,
        6,
        3,
        batches=(8, 16, 32),
        own=32,
        max_tokens=32,
        samples=10,
        temperature=0.8,
        memory=20,
    ),
    Case("adapters", "hellaswag", 0, 40, 6, 2.5, adapters=ADAPTERS, memory=10),
)
OWN = "own-"
REAL_CASES = (
    Case("own-hellaswag-0", "hellaswag", 0, 100, 30, 2.5, memory=100),
    Case("own-hellaswag-10", "hellaswag", 10, 20, 30, 10, batches=(8,)),
    Case("own-gsm8k-5", "gsm8k", 5, 20, 30, 2, batches=(8, 16), own=16, max_tokens=64),
)
BF16, REAL = "bf16", "real"


@frozen
class Requests:
    """The documents of a case and what is sent for each. make() -> fresh lm-eval instances, of the first n documents'
    where n is given.
    """

    task: Task
    examples: tuple[Example, ...]
    make: Callable[..., list[Any]]


@frozen
class Timed:
    """A side's seconds at a batch size, of the median run, and what it answered."""

    seconds: float
    batch: int
    answers: list[Any]


def lay_out(mirror: Path, target: Path) -> None:
    """A mirror with the rows that the cases need: shots for every task, and one subject in MMLU."""
    for name in MIRRORED:
        there = {path.stem: _read(path) for path in (mirror / name).glob("*.jsonl")}
        if name in ("hellaswag", "arc_challenge") and len(there.get("train", ())) < HELD_OUT:
            split = "test" if name == "arc_challenge" and "test" in there else "validation"
            there["train"], there[split] = there[split][-HELD_OUT:], there[split][:-HELD_OUT]
        if name == "mmlu":
            subject = _middle_subject(there["dev"])
            there["dev"] = [row for row in there["dev"] if row["subject"] == subject]
            there["test"] = [row | {"subject": subject} for row in there["test"]]
        (target / name).mkdir(parents=True)
        for split, rows in there.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (target / name / f"{split}.jsonl").write_text(text, encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _middle_subject(rows: Sequence[dict[str, Any]]) -> str:
    length: dict[str, int] = {}
    for row in rows:
        written = len(row["question"]) + sum(map(len, row["choices"]))
        length[row["subject"]] = length.get(row["subject"], 0) + written
    return sorted(length, key=lambda subject: (length[subject], subject))[len(length) // 2]


def real_model(folder: Path) -> Any:
    """A real model in float32, with its own weights."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder / REAL, dtype="float32").eval()


def model_of(layers: int) -> Any:
    """The model, the same one whenever it is asked for."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        initializer_range=DEVIATION,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.generation_config = transformers.GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    return model


def with_adapters(model: Any, count: int) -> Any:
    """The model with adapters '0', '1', ... of rank 16 on all linear layers, none of them without effect."""
    import peft
    import torch

    torch.manual_seed(1)
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
    tuned = peft.get_peft_model(model, config, adapter_name="0")
    for number in range(1, count):
        tuned.add_adapter(str(number), config)
    return tuned.eval()


def requests_of(case: Case, tokenizer: Any, documents: int) -> Requests:
    from lm_eval.api.instance import Instance

    plain = load_format("plain")
    task = load_task(case.task).with_shots(case.shots)
    examples = task.examples(task.spec.split, documents)
    rendered = render_all(task, examples, plain, tokenizer)
    until = generation_kwargs(task, plain)["until"] if case.max_tokens else []

    def make(n: int | None = None) -> list[Any]:
        made: list[Any] = []
        for number, one in enumerate(rendered[:n]):
            about = (case.task, number, case.samples)
            if not case.max_tokens:
                for i, continuation in enumerate(one.continuations):
                    arguments = (one.text, one.delimiter + continuation)
                    made.append(Instance("loglikelihood", {}, arguments, i, about))
                continue
            decoding: dict[str, Any] = {
                "until": list(until),
                "do_sample": case.temperature > 0,
                "max_gen_toks": case.max_tokens,
                "temperature": case.temperature,
            }
            if case.temperature > 0:
                decoding["top_k"] = 0
            made += [Instance("generate_until", {}, (one.text, decoding), 0, about)] * case.samples
        return made

    return Requests(task, examples, make)


def engine(side: str, model: Any, tokenizer: Any, batch: int) -> Any:
    if side == "ours":
        from slmbench.evaluation.shared_prefix import SharedPrefixLM as Engine
    else:
        from lm_eval.models.huggingface import HFLM as Engine
    return Engine(pretrained=model, tokenizer=tokenizer, batch_size=batch, softmax_dtype="float32")


def answer(side: str, model: Any, tokenizer: Any, batch: int, instances: list[Any]) -> tuple[float, list[Any]]:
    """(seconds, answers) of one call of a new engine."""
    import torch

    one = engine(side, model, tokenizer, batch)
    call = one.generate_until if instances[0].request_type == "generate_until" else one.loglikelihood
    torch.manual_seed(0)
    begun = time.perf_counter()
    answers = call(instances, disable_tqdm=True)
    return time.perf_counter() - begun, list(answers)


def answer_all(
    case: Case, side: str, model: Any, tokenizer: Any, batch: int, make: Callable[[], list[Any]]
) -> tuple[float, list[Any]]:
    """(seconds, answers) of the case's model; where it has adapters, of the base and then of each of these."""
    if not case.adapters:
        return answer(side, model, tokenizer, batch, make())
    with model.disable_adapter():
        seconds, answers = answer(side, model, tokenizer, batch, make())
    for number in range(case.adapters):
        model.set_adapter(str(number))
        more, found = answer(side, model, tokenizer, batch, make())
        seconds, answers = seconds + more, answers + found
    return seconds, answers


def measure(case: Case, side: str, model: Any, tokenizer: Any, batch: int, requests: Requests) -> Timed:
    answer(side, model, tokenizer, batch, requests.make(2))
    seconds, answers = answer_all(case, side, model, tokenizer, batch, requests.make)
    taken = [seconds]
    while taken[0] < SHORT_S and len(taken) < RUNS:
        taken.append(answer_all(case, side, model, tokenizer, batch, requests.make)[0])
    return Timed(statistics.median(taken), batch, answers)


def compare(case: Case, folder: Path, tokenizer: Any) -> set[str]:
    """Runs both sides, prints the case's line and that of its memory; returns what was missed."""
    requests = requests_of(case, tokenizer, case.documents)
    model = real_model(folder) if case.is_real else model_of(case.layers)
    if case.adapters:
        model = with_adapters(model, case.adapters)
    tried = [measure(case, "hflm", model, tokenizer, batch, requests) for batch in case.batches]
    theirs = min(tried, key=lambda one: one.seconds)
    ours = measure(case, "ours", model, tokenizer, case.own or theirs.batch, requests)
    others = ", ".join(f"{one.batch}: {one.seconds:.2f} s" for one in tried if one is not theirs)
    ratio = theirs.seconds / ours.seconds
    parts = [
        f"{case.name}, {case.layers} layers, {len(requests.examples)} documents: HFLM {theirs.seconds:.2f} s "
        f"(batch {theirs.batch}{'; ' + others if others else ''}), ours {ours.seconds:.2f} s (batch {ours.batch})",
        f"ratio {ratio:.2f} (at least {case.wanted:g})",
    ]
    missed = ["ratio"] if ratio < case.wanted else []
    if case.max_tokens:
        said, unlike = _outputs(case, ours.answers, theirs.answers)
    else:
        said, unlike = _scores(requests, ours.answers, theirs.answers)
        if "log-likelihoods" in unlike and not case.adapters:
            off = _off_float64(model, tokenizer, requests.make(), ours.answers, theirs.answers)
            said.append(f"of the one farthest apart ours is {off[0]:.1e} and HFLM's {off[1]:.1e} off float64's")
            unlike = [what for what in unlike if what != "log-likelihoods" or off[0] > TOLERANCE_NATS]
        if len(tried) > 1:
            said.append(f"HFLM's own batch sizes within {_apart(tried[0].answers, tried[-1].answers):.1e} nats")
    print("; ".join([*parts, *said]) + _mark([*missed, *unlike]), flush=True)
    found = {f"{case.name}: {what}" for what in [*missed, *unlike]}
    del model, tried
    if case.memory:
        documents = min(case.memory, case.documents)
        peaks = {
            side: peak_of(side, case, folder, batch, documents)
            for side, batch in (("hflm", theirs.batch), ("ours", ours.batch))
        }
        share = peaks["ours"] / peaks["hflm"]
        missed = ["memory"] if round(share, 2) > 1 else []
        found |= {f"{case.name}: {what}" for what in missed}
        print(
            f"{case.name}, {case.layers} layers, {documents} documents: peak RSS, ours / HFLM "
            f"{peaks['ours'] / 2**30:.2f} / {peaks['hflm'] / 2**30:.2f} GiB (batch {ours.batch} / {theirs.batch}), "
            f"ratio {share:.2f} (at most 1){_mark(missed)}",
            flush=True,
        )
    return found


def _mark(missed: Sequence[str]) -> str:
    return f"; missed: {', '.join(missed)}" if missed else ""


def _apart(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The largest difference of a log-likelihood."""
    return max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True))


def _scores(requests: Requests, ours: list[Any], theirs: list[Any]) -> tuple[list[str], list[str]]:
    """(what a line says of two sides' log-likelihoods, what is missed)."""
    worst = _apart(ours, theirs)
    alike = sum(a == b for (_, a), (_, b) in zip(ours, theirs, strict=True))
    of_ours, of_theirs = (_means(requests, answers) for answers in (ours, theirs))
    said = [f"log-likelihoods within {worst:.1e} nats", f"is_greedy equal {alike} of {len(ours)}"]
    said += [f"{name} {of_ours[name]:.4f} / {of_theirs[name]:.4f}" for name in of_ours]
    missed = ["log-likelihoods"] if worst > TOLERANCE_NATS else []
    missed += ["is_greedy"] if alike < len(ours) else []
    return said, missed + [name for name in of_ours if of_ours[name] != of_theirs[name]]


def _off_float64(
    model: Any, tokenizer: Any, instances: Sequence[Any], ours: Sequence[Any], theirs: Sequence[Any]
) -> tuple[float, float]:
    """How far each side's log-likelihood is from float64's, of the request where they are farthest apart."""
    from engine_equality import in_float64

    gaps = [abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)]
    which = gaps.index(max(gaps))
    exact = in_float64(model, "causal", *engine("hflm", model, tokenizer, 1)._encode_pair(*instances[which].args))
    return abs(ours[which][0] - exact), abs(theirs[which][0] - exact)


def _means(requests: Requests, answers: list[Any]) -> dict[str, float]:
    """Each metric's mean over the documents, and over base and adapters where there are any."""
    values: dict[str, list[float]] = {}
    left = iter(answers)
    for example in itertools.cycle(requests.examples):
        sums = tuple(value for value, _ in itertools.islice(left, len(example.choices)))
        if not sums:
            break
        for score in requests.task.score(example, Output(loglikelihoods=sums)):
            values.setdefault(score.metric, []).append(score.value)
    return {name: statistics.fmean(each) for name, each in values.items()}


def _outputs(case: Case, ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    if case.temperature > 0:
        written = [statistics.fmean(map(len, side)) for side in (ours, theirs)]
        shown = [f"{len(set(side))} different" for side in (ours, theirs)]
        return [
            f"outputs of {written[0]:.0f} / {written[1]:.0f} characters, {shown[0]} / {shown[1]} of {len(ours)}"
        ], []
    alike = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return [f"outputs equal {alike} of {len(ours)}"], ["outputs"] if alike < len(ours) else []


def peak_of(side: str, case: Case, folder: Path, batch: int, documents: int) -> int:
    """The peak of a fresh process that loads the model and runs one side, in bytes."""
    options = ["--folder", str(folder), "--batch", str(batch), "--documents", str(documents)]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", side, case.name, *options]
    command += ["--layers", str(case.layers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent)
    if done.returncode:
        sys.exit(f"{side}, {case.name}: exit code {done.returncode}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def run_child(side: str, case: Case, folder: Path, batch: int) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / (REAL if case.is_real else "tokenizer"))
    requests = requests_of(case, tokenizer, case.documents)
    model = real_model(folder) if case.is_real else model_of(case.layers)
    if case.adapters:
        model = with_adapters(model, case.adapters)
    answer_all(case, side, model, tokenizer, batch, requests.make)
    print(json.dumps({"peak_bytes": peak_memory_bytes()}))


def compare_bf16(tokenizer: Any, documents: int, layers: int) -> None:
    """Prints how far apart one model's log-likelihoods are, by how its requests stand together in batches."""
    import torch

    case = Case(BF16, "hellaswag", 0, documents, layers, 0)
    requests = requests_of(case, tokenizer, documents)
    narrow = model_of(layers).to(torch.bfloat16)
    wide = copy.deepcopy(narrow).float()
    found = {"float32": [value for value, _ in answer("hflm", wide, tokenizer, 1, requests.make())[1]]}
    for side, batch in (("hflm", 1), ("hflm", 8), ("hflm", 32), ("ours", 32)):
        title = f"HFLM at batch {batch}" if side == "hflm" else "ours"
        found[title] = [value for value, _ in answer(side, narrow, tokenizer, batch, requests.make())[1]]
    for one, other in itertools.combinations(found, 2):
        apart = [abs(a - b) for a, b in zip(found[one], found[other], strict=True)]
        print(
            f"{BF16}, {layers} layers, {len(requests.examples)} documents, {one} and {other}: log-likelihoods "
            f"{max(apart):.3f} nats apart at most, {statistics.fmean(apart):.4f} in the mean",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", metavar="CASE", choices=[*(case.name for case in (*CASES, *REAL_CASES)), BF16, OWN])
    parser.add_argument("--model", metavar="PATH", default=os.environ.get("SLMBENCH_SMOLLM2"), help="a real model")
    parser.add_argument("--documents", type=int, help="at most so many in each case")
    parser.add_argument("--layers", type=int, help="so many in every case")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quiet_libraries()

    def sized(case: Case) -> Case:
        documents = min(case.documents, arguments.documents or case.documents)
        return evolve(
            case, documents=documents, layers=case.layers if case.is_real else arguments.layers or case.layers
        )

    if arguments.child:
        side, name = arguments.child
        (case,) = (sized(case) for case in (*CASES, *REAL_CASES) if case.name == name)
        run_child(side, case, arguments.folder, arguments.batch)
        return
    mirror = os.environ.get("SLMBENCH_DATA")
    if not mirror:
        sys.exit(f"set SLMBENCH_DATA to a mirror with {', '.join(MIRRORED)}")
    import torch

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tokenizer = tokenizer_of(Path(mirror))
        tokenizer.save_pretrained(folder / "tokenizer")
        lay_out(Path(mirror), folder / "mirror")
        os.environ["SLMBENCH_DATA"] = str(folder / "mirror")
        print(f"{torch.get_num_threads()} threads", flush=True)
        missed: set[str] = set()
        for case in CASES:
            if arguments.only in (None, case.name):
                missed |= compare(sized(case), folder, tokenizer)
        if arguments.model:
            source = resolve_model(arguments.model, default_catalog())
            os.symlink(source.location, folder / REAL)
            for case in REAL_CASES:
                if arguments.only in (None, OWN, case.name):
                    missed |= compare(sized(case), folder, load_tokenizer(source))
        if arguments.only in (None, BF16):
            documents = min(BF16_DOCUMENTS, arguments.documents or BF16_DOCUMENTS)
            compare_bf16(tokenizer, documents, arguments.layers or BF16_LAYERS)
        if missed:
            sys.exit(f"missed: {', '.join(sorted(missed))}")


if __name__ == "__main__":
    main()
