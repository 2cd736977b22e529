"""Runs of the command line that can be brought into a project, and `python -m dreambooth.web.run_imports`, which does it.

Models, checkpoints and pictures become hard links, which take no room: a run never changes them in place. Whatever may be
appended to is copied. On another disk everything is copied, and only if that was agreed to. Links inside a run are left out,
so nothing from elsewhere comes with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.cli.terminal import run_command
from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, is_leftover
from dreambooth.runs.folder import RunFolder

__all__ = ["FoundRun", "bring_run", "found_run", "found_runs", "main"]

_MOST_RUNS = 300
_DEEPEST = 4
_LINKED = (".safetensors", ".ckpt", ".png")
_COPY = "--copy"


@dataclass(frozen=True)
class FoundRun:
    """A run below the folder that the server may look into."""

    path: Path
    name: str
    """Its path relative to that folder."""
    changed: float
    """When something last happened in it, in seconds since 1970."""

    @property
    def id(self) -> str:
        """What a browser calls it: nothing of its path is in it."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def num_bytes(self) -> int:
        """The size of all files that would be brought."""
        return sum(path.stat().st_size for path in _files(self.path))

    def is_on_disk_of(self, folder: Path) -> bool:
        """Whether links are possible: both are on one file system."""
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        return self.path.stat().st_dev == existing.stat().st_dev


def found_runs(folder: Path | None, *, but_not: Path) -> list[FoundRun]:
    """The runs in `folder`, the newest first, without those below `but_not`. No link is followed."""
    if folder is None or not folder.is_dir():
        return []
    runs = (
        FoundRun(path, path.relative_to(folder).as_posix(), RunFolder(path).events.stat().st_mtime)
        for path in _run_folders(folder, _DEEPEST, but_not)
    )
    return sorted(runs, key=lambda run: run.changed, reverse=True)[:_MOST_RUNS]


def found_run(folder: Path | None, id_: str, *, but_not: Path) -> FoundRun:
    """The run of that id. Raises RunError when there is none: an id never leads out of the folder."""
    for run in found_runs(folder, but_not=but_not):
        if run.id == id_:
            return run
    raise RunError("no such run", hint="Reload the page; it lists the runs that exist.")


def bring_run(source: Path, destination: Path, *, may_copy: bool) -> None:
    """Make `destination`, which must not exist, a run like `source`; it is whole or absent at every moment.

    Raises RunError when large files would have to be copied and `may_copy` is not set.
    """
    with atomic_directory(destination) as partial:
        for path in _files(source):
            place = partial / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix not in _LINKED:
                shutil.copyfile(path, place)
                continue
            try:
                os.link(path, place, follow_symlinks=False)
            except OSError as error:
                if not may_copy:
                    raise RunError(
                        f"{path}: cannot be linked ({error.strerror or error}), so its content would be copied",
                        hint="Import the run again, and agree to the copy.",
                    ) from error
                shutil.copyfile(path, place)


def main(arguments: Sequence[str]) -> int:
    """Bring the run of the first argument to the second one; returns the exit code."""
    source, destination = (Path(argument) for argument in arguments[:2])
    return run_command(lambda: bring_run(source, destination, may_copy=_COPY in arguments[2:]))


def _run_folders(folder: Path, depth: int, but_not: Path) -> Iterator[Path]:
    run = RunFolder(folder)
    if _is_file(run.config) and _is_file(run.events):
        yield folder
        return
    for entry in sorted(folder.iterdir()) if depth > 0 and os.access(folder, os.R_OK | os.X_OK) else ():
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".") and entry != but_not:
            yield from _run_folders(entry, depth - 1, but_not)


def _files(run: Path) -> Iterator[Path]:
    """Every file of a run, but no links and nothing half-written."""
    for place, folders, names in os.walk(run, followlinks=False):
        folders[:] = sorted(name for name in folders if not is_leftover(Path(name)))
        for name in sorted(names):
            path = Path(place) / name
            if _is_file(path) and not is_leftover(path):
                yield path


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
