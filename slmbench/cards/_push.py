"""A card and what it is of, to a repository of the hub: the one thing that asks a network, and only when told to."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.cards._head import is_hub_id
from slmbench.console import phase, say
from slmbench.errors import OfflineError, SlmbenchError, UsageError
from slmbench.files import disk_errors
from slmbench.hub import hub_answers, hub_is_offline
from slmbench.leaderboard.texts import size
from slmbench.visible import visible

RECORDS = ("training.json", "merge.json", "merge.yaml", "export.json")
"""They name folders of this machine, and may quote rows of the data."""
_TAKEN = (
    *("*.safetensors", "*.safetensors.index.json", "*.gguf"),
    *("adapter_config.json", "config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *(
        "tokenizer.model",
        "spiece.model",
        "merges.txt",
        "vocab.txt",
        "Modelfile",
        "Modelfile.gguf",
        "LICENSE*",
        "NOTICE*",
    ),
)


@frozen
class UploadFile:
    """A file, and its name in the repository."""

    path: str
    name: str
    bytes: int


@frozen
class Upload:
    """What would be uploaded. left_out: names of files that stay here, each with why."""

    repo: str
    endpoint: str
    public: bool
    files: tuple[UploadFile, ...]
    left_out: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.files)

    def lines(self) -> list[str]:
        """For the person, before anything is sent."""
        kind = "public" if self.public else "private"
        total = f"{len(self.files)} files, {size(self.bytes)}"
        lines = [f"to {self.endpoint}/{self.repo} ({kind} if it is new; one that is there stays what it is): {total}"]
        lines += [f"  {visible(one.name)}  {one.bytes:,} bytes" for one in self.files]
        return lines + [f"  stays here: {visible(one)}" for one in self.left_out]


def refuse_push(repo: str) -> None:
    """Raises UsageError for what is no repository's id or if there is no token; OfflineError without a hub to ask."""
    if not is_hub_id(repo):
        raise UsageError(f"--push {repo!r}: give a repository of the hub as OWNER/NAME")
    if hub_is_offline():
        raise OfflineError(f"--push {repo}: HF_HUB_OFFLINE says that no network is asked; unset it to push")
    if _token() is None:
        raise UsageError(f"--push {repo}: no token is there; log in with `hf auth login`, or set HF_TOKEN")
    if not hub_answers():  # The hub's own client would wait for ever.
        from huggingface_hub import constants

        raise OfflineError(f"--push {repo}: {constants.ENDPOINT} doesn't answer; nothing was uploaded")


def planned_upload(
    repo: str, folder: str | None, card: Sequence[str], place: str, *, public: bool, records: bool
) -> Upload:
    """What a push takes: the card's files, and of the folder that it is of what loads and runs it.

    card: names of the card's files, below `place`. records: those of RECORDS too.
    """
    from huggingface_hub import constants

    files = [UploadFile(os.path.join(place, name), name, os.path.getsize(os.path.join(place, name))) for name in card]
    left_out = []
    for name, path in _inside(folder):
        if name in card:
            continue
        if (why := _why_not(name, path, str(folder), records)) is not None:
            left_out.append(f"{name}: {why}")
        else:
            files.append(UploadFile(path, name, os.path.getsize(path)))
    return Upload(repo, constants.ENDPOINT, public, tuple(files), tuple(left_out))


def _inside(folder: str | None) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(folder)) if folder is not None else ():
        if name != ".eval_results":
            yield name, os.path.join(str(folder), name)


def _why_not(name: str, path: str, folder: str, records: bool) -> str | None:
    """Why a file stays here; None if it goes."""
    if name in RECORDS:
        return None if records else "names folders of this machine and may quote rows; --records takes it along"
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _TAKEN):
        return "not of what loads it"
    if not os.path.isfile(path):
        return "no file"
    inside = os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
    return None if inside else "a link that leads out of the folder"


def push(upload: Upload) -> str:
    """Uploads as one commit, after the repository was made if it isn't there; returns the commit's address.

    Raises SlmbenchError that says what the hub answered and what is there now; the token stands in no message.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    token = _token()
    api, made = HfApi(endpoint=upload.endpoint, token=token), False
    with disk_errors(tempfile.gettempdir()):
        stage = tempfile.mkdtemp(prefix="slmbench-push-")
    try:
        for one in upload.files:
            _stage(one, Path(stage, one.name))
        with phase("uploading"):
            api.create_repo(upload.repo, private=not upload.public, exist_ok=True)
            made = True
            done = api.upload_folder(
                repo_id=upload.repo, folder_path=stage, commit_message="Model card and weights, by slmbench"
            )
    except KeyboardInterrupt:
        say(f"{upload.repo}: interrupted before the upload was committed")
        raise
    except SlmbenchError:
        raise
    except Exception as error:  # Of its HTTP client, its queue, its threads: each an upload that isn't there.
        raise SlmbenchError(_told(error, upload, token, made)) from None  # Its headers have the token.
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return str(done.commit_url)


def _stage(one: UploadFile, place: Path) -> None:
    """A link, so that exactly these files lie in the folder that is uploaded; a copy if there can be none."""
    with disk_errors(str(place)):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(os.path.realpath(one.path))
        except OSError:
            shutil.copyfile(one.path, place)


def _told(error: BaseException, upload: Upload, token: str | None, made: bool) -> str:
    status = _status(error)
    what = {
        400: "the hub refuses what was sent",
        401: "the hub doesn't take the token; log in again with `hf auth login`, or set HF_TOKEN",
        403: "the token may not write there; take one with write access to it",
        404: "the hub knows no such repository, or the token may not see it",
        409: "the hub says that another change came in between; run the same command again",
        429: "the hub asks to wait; run the same command later",
    }.get(status or 0, "the upload failed; run the same command again" if made else "the hub could not be asked")
    said = " ".join(str(_root(error)).split()) or type(error).__name__
    said = said.replace(token, "[token]") if token else said
    code = f" ({status})" if status is not None else ""
    kept = "the repository is there, and nothing of this upload is in it" if made else "nothing was uploaded"
    return f"--push {upload.repo}: {what}{code}: {visible(said[:400])}; {kept}"


def _status(error: BaseException | None) -> int | None:
    while error is not None:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(code, int):
            return code
        error = error.__cause__ or error.__context__
    return None


def _root(error: BaseException) -> BaseException:
    """The error that others were made of: a library says of them only that something failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _token() -> str | None:
    from huggingface_hub import get_token

    token: str | None = get_token()
    return token
