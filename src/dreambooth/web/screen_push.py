"""Publish a run on the Hugging Face hub: first a dry run that shows what would be published, then, when it was agreed to, that.

The login is the machine's own (`hf auth login` or HF_TOKEN). No page asks for a token, and none is stored or shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError
from dreambooth.files import remove_directory
from dreambooth.reading import read_text
from dreambooth.runs.folder import RunFolder
from dreambooth.web.answers import Answer, Call, Moved
from dreambooth.web.chosen import chosen_model
from dreambooth.web.commands import Command, verb_command
from dreambooth.web.forms import check_request
from dreambooth.web.jobs import JobRecord
from dreambooth.web.projects import Project
from dreambooth.web.screens import job_values, project_of, size_text
from dreambooth.weights.hub_upload import has_login
from dreambooth.weights.settings import PushSettings

__all__ = ["check_push", "publish", "push_values"]

_FOLDERS = "push-"
_MOST_README_BYTES = 1 << 18
_QUEUE = "files"


def check_push(call: Call) -> Answer:
    """Write what would be published into a folder, without the network."""
    project = project_of(call)
    run = chosen_model(project).run
    given = {"repo": call.value("repo").strip(), "license": call.value("license").strip() or None}
    is_public = call.value("public") == "true"
    check_request(PushSettings, {"run": str(run.path), **given})
    _check_is_free(call, project)
    earlier = _folders(project)
    folder = _next_folder(project, earlier)
    command = verb_command("push", run.path, **given, private=False if is_public else None, dry_run=True, output=folder)
    place = folder.relative_to(project.path).as_posix()
    job = call.desk.queue.add(project, "push-check", command, title="Prepare", queue=_QUEUE, place=place)
    for shown in earlier:
        with suppress(OSError):
            remove_directory(shown)
    return Moved(f"/projects/{project.name}/take#publish", {"job": job.number})


def publish(call: Call) -> Answer:
    """Publish what a dry run showed, on the word of whoever looked at it."""
    project = project_of(call)
    check = next((job for job in _jobs(call, project, "push-check") if str(job.number) == call.value("checked")), None)
    if check is None or check.state != "finished" or check.ended is None or not (project.path / check.place).is_dir():
        raise RunError("nothing was shown that could be published", hint="First show what would be published.")
    if call.value("agreed") != "true":
        raise RunError(
            "nothing was published: the agreement is missing", hint="Look at the files, and tick the box below them."
        )
    _check_is_free(call, project)
    model = RunFolder(_run_of(check)).final_model
    if not model.is_file() or model.stat().st_mtime > check.ended:
        raise RunError("the model has changed since it was shown", hint="Show what would be published once more.")
    job = call.desk.queue.add(project, "push", _real(check), title="Publish", queue=_QUEUE)
    return Moved(f"/projects/{project.name}/take#publish", {"job": job.number})


def push_values(call: Call, project: Project) -> dict[str, Any]:
    """What the Take away screen shows of publishing."""
    checks, pushes = _jobs(call, project, "push-check"), _jobs(call, project, "push")
    check = checks[-1] if checks else None
    pushed = pushes[-1] if pushes and (check is None or pushes[-1].number > check.number) else None
    folder = None if check is None or check.state != "finished" else project.path / check.place
    return {
        "is_logged_in": has_login(),
        "repo": "" if check is None else _flag(check, "--repo"),
        "license": "" if check is None else _flag(check, "--license"),
        "is_public": check is not None and "--no-private" in check.command,
        "check": None if check is None else job_values(check, call),
        "files": [] if folder is None else _files(folder),
        "card": "" if folder is None else _card(folder),
        "command": "" if check is None else _real(check).typed,
        "job": None if pushed is None else job_values(pushed, call),
        "said": [] if pushed is None or pushed.state != "finished" else call.desk.queue.store.lines(pushed)[-1:],
    }


def _jobs(call: Call, project: Project, *kinds: str) -> list[JobRecord]:
    return call.desk.queue.store.of(project.name, kinds or ("push-check", "push"))


def _check_is_free(call: Call, project: Project) -> None:
    if any(job.is_active for job in _jobs(call, project)):
        raise RunError("a run of this project is being published already", hint="Wait until that ends.")


def _run_of(check: JobRecord) -> Path:
    return Path(check.command[check.command.index("push") + 1])


def _flag(check: JobRecord, flag: str) -> str:
    return next((word.partition("=")[2] for word in check.command if word.startswith(f"{flag}=")), "")


def _real(check: JobRecord) -> Command:
    """The command of a dry run without what makes it dry, so that nothing else is published than what was shown."""
    words = [word for word in check.command if not _is_dry(word)]
    run, settings = _run_of(check), {"repo": _flag(check, "--repo"), "license": _flag(check, "--license") or None}
    typed = verb_command("push", run, **settings, private=False if "--no-private" in check.command else None).typed
    return Command(tuple(words), typed)


def _is_dry(word: str) -> bool:
    return word == "--dry-run" or word.startswith("--output=")


def _next_folder(project: Project, earlier: Sequence[Path]) -> Path:
    number = max((int(folder.name.removeprefix(_FOLDERS)) for folder in earlier), default=0) + 1
    return project.exports / f"{_FOLDERS}{number}"


def _folders(project: Project) -> Sequence[Path]:
    found = project.exports.glob(f"{_FOLDERS}*") if project.exports.is_dir() else ()
    return [path for path in found if path.name.removeprefix(_FOLDERS).isdecimal() and path.is_dir() and not path.is_symlink()]


def _files(folder: Path) -> list[dict[str, str]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return [{"name": path.relative_to(folder).as_posix(), "size": size_text(path.stat().st_size)} for path in found]


def _card(folder: Path) -> str:
    try:
        return read_text(folder / "README.md", most_bytes=_MOST_README_BYTES)
    except (OSError, ValueError):
        return ""
