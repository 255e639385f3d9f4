"""What works on this machine, what doesn't, and how to mend it: a probe each, and none of them ends the others."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Literal

from attrs import frozen

from slmbench import paths
from slmbench.catalog import FILE_KINDS, default_catalog
from slmbench.errors import SlmbenchError
from slmbench.hub import hub_is_offline
from slmbench.machine import accelerator, available_bytes, bitsandbytes_libraries, resident_bytes
from slmbench.sandbox import open_sandbox
from slmbench.values import JsonObject

Status = Literal["ok", "limited", "broken"]
HUB = "huggingface.co"
HUB_WAIT_S = 1.0
LITTLE_DISK_BYTES = 5_000_000_000
LITTLE_MEMORY_BYTES = 2_000_000_000
_LLAMA_CPP = ("llama-server", "llama-quantize", "llama-cli")
# Beside what is always installed: package -> (what it brings, how it is installed).
_MORE = {
    "mergekit": ("merge methods `mergekit/...`", "{python} -m pip install mergekit"),
    "ray": ("`slmbench matrix --on ray`", "{python} -m pip install 'slmbench[ray]'"),
    "llama-cpp-python": ("`--engine llamacpp`", "{python} -m pip install 'slmbench[llamacpp]' (docs/edge.md)"),
    "vllm": ("`--engine vllm`", "for a GPU, in another environment: pip install 'slmbench[vllm]'"),
}
_KNOWN = ("torch", "transformers", "peft", "trl", "lm-eval", "datasets", "tokenizers", "huggingface-hub")


@frozen
class Symptom:
    """What a probe found.

    status: `limited` for what doesn't work and slmbench can do without, `broken` for what it needs. mend: what to do
    about it, '' where there is nothing to do.
    """

    name: str
    status: Status
    said: str
    mend: str = ""

    def as_json(self) -> JsonObject:
        return {"name": self.name, "status": self.status, "said": self.said, "mend": self.mend}


@frozen
class Diagnosis:
    """All findings, in the order in which they are shown. versions: of Python, slmbench and what is under it."""

    findings: tuple[Symptom, ...]
    versions: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing that slmbench needs is broken."""
        return all(one.status != "broken" for one in self.findings)

    def as_json(self) -> JsonObject:
        return {"ok": self.ok, "versions": self.versions, "findings": [one.as_json() for one in self.findings]}


def diagnose() -> Diagnosis:
    """Looks at this machine: nothing is written, no model is loaded, and no probe raises."""
    findings = [finding for name, probe in _PROBES.items() for finding in _probed(name, probe)]
    return Diagnosis(tuple(findings), _versions())


def _probed(name: str, probe: Callable[[], Iterator[Symptom]]) -> list[Symptom]:
    found: list[Symptom] = []
    try:
        for finding in probe():
            found.append(finding)
    except Exception as error:  # A broken package raises what it likes when it is imported.
        said = " ".join(str(error).split())[:300]
        found.append(Symptom(name, "broken", f"{type(error).__name__}: {said}", "install what it names again"))
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("slmbench", *_KNOWN):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _packages() -> Iterator[Symptom]:
    from packaging.requirements import Requirement

    faults, wanted = [], []
    for text in metadata.requires("slmbench") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted.append(requirement)
        try:
            there = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            faults.append((requirement, "isn't installed"))
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            faults.append((requirement, f"is {there}; slmbench needs {requirement.specifier}"))
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if not faults:
        yield Symptom("packages", "ok", f"{python}, all {len(wanted)} packages in versions that fit")
    for requirement, said in faults:
        mend = f"{sys.executable} -m pip install '{requirement.name}{requirement.specifier}'"
        yield Symptom("packages", "broken", f"{requirement.name} {said}", mend)


def _declarations() -> Iterator[Symptom]:
    try:
        catalog = default_catalog()
        counts = [f"{len(catalog.files(kind))} {kind}" for kind in ("tasks", *FILE_KINDS)]
    except SlmbenchError as error:
        yield Symptom("declarations", "broken", str(error), "mend it, or take its folder out of SLMBENCH_PATH")
        return
    if not os.path.isfile(os.path.join(paths.package_dir(), "nano", "model", "model.safetensors")):
        yield Symptom("embedded model", "broken", "its weights are not in the package", "install slmbench again")
    yield Symptom("declarations", "ok", ", ".join(counts))


def _compute() -> Iterator[Symptom]:
    here = accelerator()
    bfloat16 = "bfloat16" if here.bfloat16 else "no bfloat16"
    if here.gpu is not None:
        many = f"{here.gpus} x " if here.gpus > 1 else ""
        said = f"{many}{here.gpu}, {(here.gpu_bytes or 0) / 1e9:.0f} GB, CUDA {here.cuda}, {bfloat16}"
        yield Symptom("GPU", "ok", said)
    elif shutil.which("nvidia-smi"):
        why = "torch was built without CUDA" if here.cuda is None else f"torch's CUDA {here.cuda} doesn't find it"
        mend = "install a torch that fits the driver (pytorch.org); `nvidia-smi` says which CUDA it has"
        yield Symptom("GPU", "limited", f"there is a driver, but {why}; all runs on the CPU", mend)
    else:
        yield Symptom("GPU", "limited", "none: everything is computed on the CPU")
    native = bfloat16 if here.gpu is None else "beside the GPU"
    yield Symptom("CPU", "ok", f"{os.cpu_count()} cores, {here.threads} threads of torch, {native}")
    yield _packed(here.gpu is not None)


def _packed(gpu: bool) -> Symptom:
    name, mend = "4-bit weights", f"{sys.executable} -m pip install --force-reinstall bitsandbytes"
    libraries = bitsandbytes_libraries()
    if libraries is None:
        return Symptom(name, "limited", "bitsandbytes isn't installed; `quantization` and QLoRA don't work", mend)
    wanted = ("cuda", "rocm", "xpu") if gpu else ("cpu",)
    if not any(one.startswith(f"libbitsandbytes_{kind}") for one in libraries for kind in wanted):
        has = ", ".join(libraries) or "none"
        return Symptom(name, "limited", f"bitsandbytes has no library for this machine (it has: {has})", mend)
    slow = "" if gpu else "; on a CPU it saves memory and costs time"
    return Symptom(
        name, "ok", f"bitsandbytes {metadata.version('bitsandbytes')}: QLoRA works, in 4 bits and in 8{slow}"
    )


def _sandbox() -> Iterator[Symptom]:
    try:
        tier = open_sandbox().tier
    except SlmbenchError as error:
        why, _, mend = str(error).partition(" Install ")
        yield Symptom("sandbox", "limited", f"code tasks don't run: {why}", f"Install {mend}" if mend else "")
        return
    yield Symptom("sandbox", "ok", f"programs that a model writes run in {tier}")


def _programs() -> Iterator[Symptom]:
    there = [name for name in _LLAMA_CPP if shutil.which(name)]
    if there:
        yield Symptom("llama.cpp", "ok", ", ".join(there))
    else:
        mend = "build it, or take a release (github.com/ggml-org/llama.cpp), and put its programs on the PATH"
        yield Symptom("llama.cpp", "limited", "not on the PATH: GGUF files are read, but not quantised or served", mend)
    for package, (brings, asked) in _MORE.items():
        try:
            yield Symptom(package, "ok", f"{metadata.version(package)}: {brings}")
        except metadata.PackageNotFoundError:
            mend = asked.format(python=sys.executable)
            yield Symptom(package, "limited", f"isn't installed: no {brings}", mend)


def _mirror() -> Iterator[Symptom]:
    folder = paths.mirror_dir()
    offline = hub_is_offline()
    if folder is None:
        said = "SLMBENCH_DATA isn't set: rows and models are those of the hub and of its cache"
        yield Symptom("mirror", "ok", said)
    elif not os.path.isdir(folder):
        mend = "correct it, or fill it: slmbench data pull --suite SUITE --to DIR"
        yield Symptom("mirror", "broken", f"SLMBENCH_DATA={folder} is not a folder", mend)
    else:
        known = default_catalog().files("datasets")
        rows = sum(name in known for name in os.listdir(folder))
        shelf = os.path.join(folder, paths.MODELS)
        models = len(os.listdir(shelf)) if os.path.isdir(shelf) else 0
        mend = "" if rows or models else "fill it: slmbench data pull --suite SUITE --to DIR"
        status: Status = "ok" if rows or models else "limited"
        yield Symptom("mirror", status, f"{rows} data sets and {models} models in {paths.shown(folder)}", mend)
    if offline:
        yield Symptom("hub", "ok", "not asked: HF_HUB_OFFLINE is set")
    elif _hub_is_reached():
        yield Symptom("hub", "ok", "can be reached")
    else:
        mend = "export HF_HUB_OFFLINE=1 to have nothing wait for it; `slmbench data pull` elsewhere fills a mirror"
        yield Symptom("hub", "limited", "can't be reached from here", mend)


def _hub_is_reached() -> bool:
    """Whether the hub's port answers; where a proxy or HF_ENDPOINT leads elsewhere, whether that one's does."""
    from urllib.parse import urlsplit

    asked = next(filter(None, (os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT"))), "")
    place = urlsplit(asked if "//" in asked else f"//{asked or HUB}")
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        with socket.create_connection((place.hostname or HUB, port), HUB_WAIT_S):
            return True
    except (OSError, ValueError):
        return False


def _room() -> Iterator[Symptom]:
    taken = {
        "this folder": os.getcwd(),
        "slmbench's cache (SLMBENCH_CACHE)": paths.cache_dir(),
        "the hub's cache (HF_HOME)": os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"),
    }
    for name, folder in taken.items():
        there = _nearest(folder)
        free = shutil.disk_usage(there).free
        said = f"{name}: {free / 1e9:.1f} GB free"
        if not os.access(there, os.W_OK):
            status: Status = "broken" if "SLMBENCH_CACHE" in name else "limited"
            yield Symptom("disk", status, f"{name}: {folder} can't be written", "choose another folder")
        elif free < LITTLE_DISK_BYTES:
            yield Symptom("disk", "limited", said, "free some space: a model of a billion parameters takes 2 GB")
        else:
            yield Symptom("disk", "ok", said)
    free_bytes = available_bytes("cpu")
    if free_bytes is None:
        yield Symptom("memory", "limited", "how much is free can't be known; forecasts are not held against it")
        return
    free_bytes -= resident_bytes()
    said = f"{free_bytes / 1e9:.1f} GB free, a container's limit counted"
    little = free_bytes < LITTLE_MEMORY_BYTES
    mend = "end other programs, or choose a smaller model: weights take 4 bytes a parameter on a CPU" if little else ""
    yield Symptom("memory", "limited" if little else "ok", said, mend)


def _nearest(folder: str) -> str:
    """The folder, or the first above it that is there."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


_PROBES: dict[str, Callable[[], Iterator[Symptom]]] = {
    "packages": _packages,
    "declarations": _declarations,
    "torch": _compute,
    "sandbox": _sandbox,
    "programs": _programs,
    "mirror": _mirror,
    "disk and memory": _room,
}
