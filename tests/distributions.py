"""Run by `tox -e build`: what would be published holds what it must, and nothing else.

python tests/distributions.py FOLDER_OF_WHEEL_AND_SDIST
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# Of a checkout alone: nobody who has the sdist runs CI or commits.
NOT_IN_SDIST = (".ci/", ".gitattributes", ".pre-commit-config.yaml")
BUNDLED = ("registry/", "tasks/")


def main() -> None:
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], check=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    tracked = {name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()}
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in opened.namelist()} - {""}
    wanted = {name for name in tracked if name.startswith("slmbench/")}
    wanted |= {f"slmbench/_bundled/{name}" for name in tracked if name.startswith(BUNDLED)}
    _hold(wheel.name, held, wanted)
    _hold(f"{wheel.name}'s metadata", about, {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"})
    with tarfile.open(sdist) as opened:
        held = {member.name.partition("/")[2] for member in opened.getmembers() if member.isfile()}
    _hold(sdist.name, held, {name for name in tracked if not name.startswith(NOT_IN_SDIST)} | {"PKG-INFO"})
    print("1 passed, 0 failed")


def _hold(what: str, held: set[str], wanted: set[str]) -> None:
    if held != wanted:
        sys.exit(f"{what}: missing {sorted(wanted - held)}, too many {sorted(held - wanted)}")
    print(f"{what}: {len(held)} files")


if __name__ == "__main__":
    main()
