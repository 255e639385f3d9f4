"""Models of the hub in a mirror: the files that they are loaded from, each once, with checksums and the commit."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence

from attrs import frozen
from pydantic import Field

from slmbench.catalog import Catalog
from slmbench.console import bar, say
from slmbench.errors import FileError, OfflineError, Problem, SlmbenchError, UsageError
from slmbench.files import disk_errors, file_sha256, json_bytes, swap_folder, write_atomically
from slmbench.foreign import Count, Foreign, SchemaOne, read_model
from slmbench.hub import hub_is_offline, use_cache_alone
from slmbench.mirror._rows import CHECKSUMS, SCHEMA, MirrorReport, leads_away
from slmbench.models import placed_tensors, refuse_unknown
from slmbench.paths import MODELS, model_mirror, shown
from slmbench.schema import ModelSpec, parse
from slmbench.yamlfile import read_yaml

HUB_TIMEOUT_S = 30.0
SPARE_BYTES = 100_000_000
"""What a disk keeps free beside a model that is to be pulled."""
_ENDINGS = (".json", ".safetensors", ".model", ".jinja")
_NAMES = ("merges.txt", "vocab.txt")
_PICKLE = "pytorch_model.bin"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class _ModelFile(Foreign):
    sha256: str
    bytes: Count


class _ModelChecksums(Foreign):
    """`checksums.json` of a model's folder: which model of the hub it is, at which commit, and its files."""

    version: SchemaOne = Field(alias="schema")
    model: str
    revision: str
    files: dict[str, _ModelFile]


@frozen
class HubModel:
    """A model of the hub that is wanted in a mirror. name: as a person calls it. revision: as declared, None for main.

    pickles: weights that are no safetensors are taken where there are no others, as for a metric. code: so are its
    Python files. ways: how else it is had, in a clause.
    """

    hub: str
    name: str
    revision: str | None = None
    license: str | None = None
    pickles: bool = False
    code: bool = False
    ways: str = ""

    @property
    def shown(self) -> str:
        return f"model {self.name!r} ({self.hub})" if self.name != self.hub else f"model {self.hub!r}"


@frozen
class _Remote:
    """What the hub, or its cache here, has of a model. files: name -> (bytes, sha256 where the hub says it).

    cached: the folder of the cache, None for the hub itself.
    """

    commit: str
    files: Mapping[str, tuple[int, str | None]]
    cached: str | None = None


def hub_model(name: str, catalog: Catalog) -> HubModel | str:
    """A registry name or hub id as what is pulled, or why there is nothing to pull, as a clause. Raises UsageError."""
    files = catalog.files("models")
    if name not in files:
        refuse_unknown(name, catalog)
        if os.path.exists(os.path.expanduser(name)):
            return f"{shown(os.path.abspath(name))} is on this machine; carry it over by yourself"
        return HubModel(name, name)
    spec = parse(ModelSpec, read_yaml(files[name]))
    if spec.hub is None:
        where = "is in the package" if spec.bundled else f"is at {spec.path}, beside {shown(files[name])}"
        return f"model {name!r} {where}"
    ways = f"; or set {spec.local.env} to a folder or GGUF file of it there" if spec.local else ""
    return HubModel(spec.hub, name, spec.revision, spec.license, code=spec.remote_code, ways=ways)


def pull_model(wanted: HubModel, mirror: str) -> list[str]:
    """Puts a model's files into a mirror, from the hub or its cache on this machine; returns their paths.

    What is there already, whole and of the same commit, isn't fetched again; after an interruption the same call goes
    on where it was. The folder gets its name when all of it is there. Raises OfflineError for what can't be had, with
    the way to get it; SlmbenchError for a disk that is full, before anything is fetched where the sizes are known.
    """
    folder = model_mirror(mirror, wanted.hub)
    _refuse_others(folder)
    remote = _ask(wanted)
    if _is_whole(folder, wanted, remote):
        say(f"{wanted.hub}: there already, commit {remote.commit[:12]}")
        return _paths(folder, remote.files)
    partial = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.partial")
    with disk_errors(partial):
        os.makedirs(partial, exist_ok=True)
        _refuse_full(partial, wanted, remote)
    files: dict[str, dict[str, object]] = {}
    try:
        total = sum(size for size, _ in remote.files.values())
        with bar(f"pulling {wanted.hub}", max(1, total // 1_000_000), "MB") as under_way:
            for name, (size, said) in remote.files.items():
                path = os.path.join(partial, name)
                _fetch(wanted, remote, name, path)
                files[name] = {"sha256": _sound(wanted, path, size, said), "bytes": size}
                under_way.advance(size // 1_000_000)
    except KeyboardInterrupt:
        say(f"{wanted.hub}: interrupted; the same command goes on with what is there")
        raise
    _check_parts(wanted, partial)
    with disk_errors(partial):
        shutil.rmtree(os.path.join(partial, ".cache"), ignore_errors=True)
        for entry in os.scandir(partial):  # Of another commit, before an interruption.
            if entry.name not in files:
                shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
    checksums = {
        "schema": SCHEMA,
        "model": wanted.hub,
        "revision": remote.commit,
        "license": wanted.license,
        "files": files,
    }
    write_atomically(os.path.join(partial, CHECKSUMS), json_bytes(checksums))
    with disk_errors(folder):
        swap_folder(partial, folder)
    say(f"{wanted.hub}: {len(files)} files, {total / 1e9:.2f} GB, commit {remote.commit[:12]}")
    return _paths(folder, remote.files)


def _paths(folder: str, names: Mapping[str, object]) -> list[str]:
    return [os.path.join(folder, name) for name in (*names, CHECKSUMS)]


def _refuse_others(folder: str) -> None:
    if os.path.lexists(folder) and not os.path.isfile(os.path.join(folder, CHECKSUMS)):
        raise UsageError(f"{shown(folder)} was not written by `data pull`; move it away, or choose another --to")


def _is_whole(folder: str, wanted: HubModel, remote: _Remote) -> bool:
    try:
        listed = read_model(os.path.join(folder, CHECKSUMS), _ModelChecksums)
    except (OSError, FileError):
        return False
    same = listed.model == wanted.hub and listed.revision == remote.commit
    problems: list[Problem] = []
    return same and set(listed.files) == set(remote.files) and not _verify_files(folder, listed, problems)


def _ask(wanted: HubModel) -> _Remote:
    if use_cache_alone():
        return _in_cache(wanted)
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(wanted.hub, revision=wanted.revision, files_metadata=True, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # httpx's and the client's own share no base that older versions have too.
        raise _not_had(wanted, error) from error
    sizes = {one.rfilename: (int(one.size or 0), one.lfs.sha256 if one.lfs else None) for one in info.siblings or ()}
    return _Remote(str(info.sha), {name: sizes[name] for name in _chosen(wanted, list(sizes))})


def _in_cache(wanted: HubModel) -> _Remote:
    from huggingface_hub import snapshot_download

    try:
        folder = str(snapshot_download(wanted.hub, revision=wanted.revision or "main", local_files_only=True))
    except Exception as error:
        raise _not_had(wanted, error) from error
    # Names that lead to nothing are of files whose download was cut off.
    there = [name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name))]
    files = {name: (os.path.getsize(os.path.join(folder, name)), None) for name in _chosen(wanted, there)}
    return _Remote(os.path.basename(folder), files, folder)


def _chosen(wanted: HubModel, names: Sequence[str]) -> list[str]:
    """Which of a model's files it is loaded from: config, tokenizer, weights once. Raises OfflineError if none is."""
    ours = [name for name in names if (name.endswith(_ENDINGS) or name in _NAMES) and not leads_away(name)]
    ours = [name for name in ours if name != CHECKSUMS and not name.startswith("consolidated")]
    ours += [name for name in names if wanted.code and name.endswith(".py") and not leads_away(name)]
    if not any(name.endswith(".safetensors") for name in ours):
        if not (wanted.pickles and _PICKLE in names):
            raise OfflineError(
                f"{wanted.shown} has no weights as safetensors; name a revision that has them{wanted.ways}"
            )
        ours.append(_PICKLE)
    # What tells of a model comes first, its weights last.
    return sorted(ours, key=lambda name: (name.endswith((".safetensors", ".bin")), name))


def _fetch(wanted: HubModel, remote: _Remote, name: str, path: str) -> None:
    if remote.cached is not None:
        with disk_errors(path):
            shutil.copyfile(os.path.join(remote.cached, name), path)
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        # Plain files, and what is cut off is gone on with.
        hf_hub_download(wanted.hub, name, revision=remote.commit, local_dir=os.path.dirname(path))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            with disk_errors(path):
                raise
        raise _not_had(wanted, error) from error


def _sound(wanted: HubModel, path: str, size: int, said: str | None) -> str:
    """The sha256 of a file that came, if it is what the hub says that it is."""
    digest = file_sha256(path)
    if os.path.getsize(path) != size or said not in (None, digest):
        os.unlink(path)
        raise OfflineError(f"{wanted.shown}: {os.path.basename(path)} came damaged; run the same command again")
    return digest


def _check_parts(wanted: HubModel, folder: str) -> None:
    there = os.listdir(folder)
    lacking = [] if "config.json" in there else ["config.json"]
    lacking += [] if any(name in there for name in _TOKENIZERS) else ["a tokenizer"]
    said = f"it lacks {' and '.join(lacking)}" if lacking else ""
    if not said and _PICKLE not in there:
        try:
            placed_tensors(folder)
        except SlmbenchError as error:
            said = str(error)
    if said:
        raise OfflineError(f"{wanted.shown} isn't whole where it was had from: {said}{wanted.ways}")


def _refuse_full(partial: str, wanted: HubModel, remote: _Remote) -> None:
    there = sum(entry.stat().st_size for entry in os.scandir(partial) if entry.is_file())
    needed = sum(size for size, _ in remote.files.values()) - there + SPARE_BYTES
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise SlmbenchError(
            f"{shown(partial)}: {wanted.shown} takes {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free; "
            "free some space and run the same command again, it resumes"
        )


def _not_had(wanted: HubModel, error: Exception) -> OfflineError:
    """What kept a model from being had, and what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        what = "is gated: accept its licence on its page of the hub, log in with `hf auth login`, run the command again"
    elif isinstance(error, errors.RevisionNotFoundError):
        what = f"has no revision {wanted.revision!r} on the hub"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = "is not on the hub, or is private: see how its id is spelt, or log in with `hf auth login`"
    elif use_cache_alone():
        why = "HF_HUB_OFFLINE is set" if hub_is_offline() else "the hub can't be reached from here"
        what = f"is not in the hub's cache on this machine, and {why}: run the same command on a machine with a network"
    else:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        what = f"could not be fetched: {said}; run the same command again, it resumes"
    return OfflineError(f"{wanted.shown} {what}{wanted.ways}")


def verify_models(mirror: str, catalog: Catalog, wanted: Sequence[HubModel] = ()) -> MirrorReport:
    """Holds the models of a mirror to their checksums. wanted: those that have to be there."""
    shelf = os.path.join(mirror, MODELS)
    problems: list[Problem] = []
    notices: list[str] = []
    for one in wanted:
        if not os.path.isdir(folder := model_mirror(mirror, one.hub)):
            problems.append(Problem(shown(folder), 0, 0, "is missing from the mirror"))
    known = [hub_model(name, catalog) for name in catalog.files("models")] if os.path.isdir(shelf) else []
    declared = {one.hub: one.revision for one in known if isinstance(one, HubModel)}
    files = 0
    for entry in sorted(os.scandir(shelf), key=lambda one: one.name) if os.path.isdir(shelf) else ():
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        path = os.path.join(entry.path, CHECKSUMS)
        try:
            listed = read_model(path, _ModelChecksums, todo="pull the model again")
        except FileNotFoundError:
            notices.append(f"{shown(entry.path)}: not written by `data pull` (no {CHECKSUMS}), so not checked")
            continue
        except FileError as error:
            problems += error.problems
            continue
        if model_mirror(mirror, listed.model) != os.path.abspath(entry.path):
            problems.append(
                Problem(shown(path), 0, 0, f"is for model {listed.model!r}, so its folder has another name")
            )
        revision = declared.get(listed.model)
        if revision and len(revision) == 40 and listed.revision != revision:
            said = f"is for revision {listed.revision!r}; the declaration has {revision!r}"
            problems.append(Problem(shown(path), 0, 0, said))
        _verify_files(entry.path, listed, problems)
        files += len(listed.files)
    return MirrorReport(tuple(problems), tuple(notices), files)


def _verify_files(folder: str, listed: _ModelChecksums, problems: list[Problem]) -> list[Problem]:
    """Adds what is wrong with a folder's files, and returns that."""
    found: list[Problem] = []
    for name in sorted(os.listdir(folder)):
        if name != CHECKSUMS and name not in listed.files and not name.startswith("."):
            found.append(Problem(shown(os.path.join(folder, name)), 0, 0, f"is not in {CHECKSUMS}; remove it"))
    for name, wanted in listed.files.items():
        path = os.path.join(folder, name)
        if leads_away(name):
            found.append(Problem(shown(os.path.join(folder, CHECKSUMS)), 0, 0, f"lists {name!r}, not a file's name"))
            continue
        try:
            size, digest = os.path.getsize(path), file_sha256(path)
        except OSError as error:
            found.append(Problem(shown(path), 0, 0, f"is in {CHECKSUMS}, but can't be read: {error.strerror}"))
            continue
        if size != wanted.bytes:
            found.append(Problem(shown(path), 0, 0, f"has {size:,} bytes, not {wanted.bytes:,}; copy it again"))
        elif digest != wanted.sha256:
            said = f"has sha256 {digest[:12]}..., not {wanted.sha256[:12]}...; copy it again"
            found.append(Problem(shown(path), 0, 0, said))
    problems += found
    return found
