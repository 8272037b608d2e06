"""Package clients for tests: programs that deliver packages from a folder, and note each call."""

import os
import tarfile
from pathlib import Path

# A .deb of these is a plain tar; `dpkg -x` unpacks it.
_APT_GET = """#!/bin/sh
echo "apt-get $*" >> "{folder}/calls"
if [ ! -d "{folder}/debian/$2" ]; then
  echo "E: Unable to locate package $2" >&2
  exit 100
fi
if [ -e "{folder}/kill" ]; then
  rm "{folder}/kill"
  kill -9 $PPID
fi
tar -cf "$2_1.0_all.deb" -C "{folder}/debian/$2" .
"""
_DPKG = """#!/bin/sh
mkdir -p "$3" && tar -xf "$2" -C "$3"
"""
_NPM = """#!/bin/sh
echo "npm $*" >> "{folder}/calls"
for last; do :; done
name=${{last%@*}}
if [ ! -f "{folder}/npm/$name.tgz" ]; then
  echo "npm error code ENOTFOUND" >&2
  exit 1
fi
cp "{folder}/npm/$name.tgz" .
"""


class Clients:
    """The packages there are: folders below `debian` and archives below `npm`."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        for name, script in (("apt-get", _APT_GET), ("dpkg", _DPKG), ("npm", _NPM)):
            program = programs / name
            program.write_text(script.format(folder=folder))
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def debian(self, name: str) -> Path:
        """Return the folder of a package's files, made empty."""
        folder = self.folder / "debian" / name
        folder.mkdir(parents=True)
        return folder

    def npm(self, name: str, files: Path) -> None:
        """Offer an npm package of a folder's files."""
        archive = self.folder / "npm" / f"{name}.tgz"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w:gz") as out:
            out.add(files, "package")

    def kill_next(self) -> None:
        """Let the next call of apt-get kill the process that called it."""
        (self.folder / "kill").touch()

    def calls(self) -> list[str]:
        """Return the calls so far."""
        notes = self.folder / "calls"
        return notes.read_text().splitlines() if notes.exists() else []
