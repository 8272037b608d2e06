"""Packages fetched by their own clients and unpacked, to read files from; nothing is installed.

    FOLDER/debian/NAME           the files of a Debian package (`apt-get download`, `dpkg -x`)
    FOLDER/pip/NAME-VERSION      of a wheel (`pip download`)
    FOLDER/npm/NAME-VERSION      of an npm package (`npm pack`), without its folder `package`

A folder appears by a rename once it is complete, so one that is there is not fetched again.
Scope: fetching; what is in a package, and whether it may be used, the caller knows.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mulap.archives import unpack
from mulap.files import AnyPath

_TIMEOUT_SECONDS = 1_800
_PART = ".part-"


def fetch_debian(name: str, folder: AnyPath) -> Path:
    """Return the folder with a Debian package's files, fetched unless they are there.

    Raises:
        ValueError: no apt-get or dpkg, or they do not deliver it, in one line.
    """

    def fetch(temporary: Path) -> None:
        _run(["apt-get", "download", name], temporary, f"{name} (Debian)")
        (package,) = temporary.glob("*.deb")
        _run(["dpkg", "-x", package.name, "files"], temporary, f"{name} (Debian)")

    return _fetch_once(Path(folder) / "debian" / name, fetch)


def fetch_pip(name: str, version: str, folder: AnyPath) -> Path:
    """Return the folder with the files of a wheel, as `fetch_debian`; no dependencies."""

    def fetch(temporary: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", f"{name}=={version}"]
        _run(command, temporary, f"{name} {version} (pip)")
        unpack(list(temporary.glob("*.whl")), temporary / "files")

    return _fetch_once(Path(folder) / "pip" / f"{name}-{version}", fetch)


def fetch_npm(name: str, version: str, folder: AnyPath) -> Path:
    """Return the folder with the files of an npm package, as `fetch_debian`; no dependencies."""

    def fetch(temporary: Path) -> None:
        command = ["npm", "pack", "--silent", f"{name}@{version}"]
        _run(command, temporary, f"{name} {version} (npm)")
        unpack(list(temporary.glob("*.tgz")), temporary / "unpacked")
        os.rename(temporary / "unpacked" / "package", temporary / "files")

    return _fetch_once(Path(folder) / "npm" / f"{name.replace('/', '__')}-{version}", fetch)


def _fetch_once(target: Path, fetch: Callable[[Path], None]) -> Path:
    """Let `fetch` make a folder `files` in a temporary one, and rename it to `target`."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}{_PART}", dir=target.parent) as folder:
        fetch(Path(folder))
        shutil.rmtree(Path(folder) / "files" / ".mulap", ignore_errors=True)
        try:
            os.rename(Path(folder) / "files", target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
    return target


def _run(command: list[str], folder: Path, what: str) -> None:
    client = "pip" if command[0] == sys.executable else command[0]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{what}: the program {client} is missing. Install it, or run this where it is."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{what}: {client} took too long. Try again later.") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise ValueError(
            f"{what}: {client} could not fetch it: {said}. Check the network and the client."
        )
