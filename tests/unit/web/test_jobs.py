"""Jobs are processes of their own: their states stand on the disk, and the reason of an end is named."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from dreambooth.errors import RunError
from dreambooth.files import write_json
from dreambooth.runs.alive import start_time
from dreambooth.runs.supervisor import JobFiles
from dreambooth.web import job_queue, jobs
from dreambooth.web.commands import Command
from dreambooth.web.desk import Desk
from dreambooth.web.job_queue import JobQueue
from dreambooth.web.jobs import JobRecord, JobStore, queue_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the signals of these tests are POSIX's")

SLEEPS = "import time; print('ready', flush=True); time.sleep(60)"


class Killed(Exception):  # noqa: N818 - it stands for a kill
    """What ends a server here and now."""


def _command(code: str) -> Command:
    return Command((sys.executable, "-c", code), "dreambooth something")


@pytest.mark.parametrize("damaged", ["[]", "{", '{"code": 1e999, "ended": 1.0}', '{"code": "x", "ended": null}'])
def test_a_damaged_end_of_a_job_is_none(tmp_path: Path, damaged: str) -> None:
    files = JobFiles(tmp_path / "00001")
    files.end.write_text(damaged, encoding="utf-8")
    files.process.write_text(damaged.replace("code", "process"), encoding="utf-8")
    assert files.read_end() is files.read_process() is None


def _until(desk: Desk, number: int, is_reached: Callable[[JobRecord], bool]) -> JobRecord:
    for _ in range(600):
        desk.queue.tick()
        job = desk.queue.store.get(number)
        if is_reached(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job} {desk.queue.store.lines(job)}")


def _has_ended(job: JobRecord) -> bool:
    return not job.is_active


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose queue starts processes."""
    desk = Desk.at(tmp_path / "projects")
    desk.projects.create("Rex")
    yield desk
    for supervisor in desk.queue._supervisors.values():
        supervisor.wait(60)


def test_jobs_of_one_device_run_one_after_the_other_and_say_how_they_ended(real: Desk) -> None:
    project = real.projects.named("rex")
    codes = ["print('well')", "import sys; print('error: no such model\\nGive another.'); sys.exit(2)"]
    codes.append("import os; os.kill(os.getpid(), 9)")
    jobs = [real.queue.add(project, "convert", _command(code), title="Convert") for code in codes]
    assert [real.queue.store.get(job.number).state for job in jobs] == ["running", "waiting", "waiting"]
    ended = [_until(real, job.number, _has_ended) for job in jobs]
    assert [job.state for job in ended] == ["finished", "failed", "failed"]
    assert ended[1].reason == "error: no such model\nGive another."
    assert "ran out of memory" in ended[2].reason
    assert real.queue.store.lines(ended[0]) == ["well"]
    for earlier, later in itertools.pairwise(ended):
        assert earlier.ended is not None and later.started is not None and earlier.ended <= later.started


def test_a_new_server_finds_the_job_of_the_old_one_even_without_its_supervisor(real: Desk, tmp_path: Path) -> None:
    project = real.projects.named("rex")
    job = real.queue.add(project, "convert", _command(SLEEPS), title="Convert")
    waiting = real.queue.add(project, "convert", _command("print('next')"), title="Next")
    _until(real, job.number, lambda job: bool(real.queue.store.lines(job)))
    (supervisor,) = real.queue._supervisors.values()
    supervisor.kill()
    supervisor.wait()
    new = Desk.at(tmp_path / "projects")
    new.queue.tick()
    assert [new.queue.store.get(one.number).state for one in (job, waiting)] == ["running", "waiting"]
    process = new.queue.store.files(job.number).read_process()
    assert process is not None
    os.kill(process.process, signal.SIGKILL)
    assert "nobody saw why" in _until(new, job.number, _has_ended).reason
    assert _until(new, waiting.number, _has_ended).state == "finished"
    for supervisor in new.queue._supervisors.values():
        supervisor.wait(60)


def test_a_stop_is_sent_once_and_a_waiting_job_is_forgotten(real: Desk) -> None:
    project = real.projects.named("rex")
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: (time.sleep(0.5), print('saved'), sys.exit(130)))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    job = real.queue.add(project, "train", _command(code), title="Train")
    waiting = real.queue.add(project, "convert", _command("print('next')"), title="Next")
    _until(real, job.number, lambda job: bool(real.queue.store.lines(job)))
    real.queue.stop(job.number)
    real.queue.stop(waiting.number)
    ended = _until(real, job.number, _has_ended)
    assert (ended.state, ended.reason) == ("stopped", "stopped as asked, and saved")
    assert real.queue.store.lines(ended) == ["ready", "saved"]
    with pytest.raises(RunError, match="no job has the number 2"):
        real.queue.store.get(waiting.number)
    with pytest.raises(RunError, match=r"the job has ended \(stopped\)"):
        real.queue.stop(job.number)


def test_a_paused_training_goes_on_behind_what_waited(real: Desk) -> None:
    project = real.projects.named("rex")
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(130))\nprint(1, flush=True)\ntime.sleep(60)"
    )
    job = real.queue.add(project, "train", _command(code), title="Train", place="runs/1")
    pictures = real.queue.add(project, "pictures", _command(SLEEPS), title="Make pictures")
    _until(real, job.number, lambda job: bool(real.queue.store.lines(job)))
    real.queue.stop(job.number, goes_on=True)
    _until(real, pictures.number, lambda job: job.state == "running")
    assert len(real.queue.store.all()) == 3
    again = real.queue.store.all()[-1]
    assert (again.state, again.place, again.typed) == ("waiting", "runs/1", again.typed)
    assert again.typed.startswith("dreambooth train --resume=")
    real.queue.stop(again.number)
    real.queue.stop(pictures.number)
    _until(real, pictures.number, _has_ended)


def _running(desk: Desk, code: str, **values: object) -> JobRecord:
    """A job that a server, killed since, had started a minute ago."""
    job = desk.queue.store.add(
        JobRecord(0, "train", "Train", "rex", _command(code).arguments, "typed", "", 0.0, place="runs/1")
    )
    job = replace(job, state="running", started=time.time() - 60, **{"num_starts": 1, **values})  # type: ignore[arg-type]
    desk.queue.store.write(job)
    return job


def test_a_job_whose_server_was_killed_before_it_began_is_started_again_but_not_for_ever(real: Desk) -> None:
    job = _running(real, "print('well')")
    assert _until(real, job.number, _has_ended).state == "finished"
    ended = _until(real, _running(real, SLEEPS, num_starts=3).number, _has_ended)
    assert (ended.state, ended.num_starts, "could not be started" in ended.reason) == ("failed", 3, True)
    ended = _until(real, _running(real, SLEEPS, is_asked_to_stop=True).number, _has_ended)
    assert (ended.state, ended.reason) == ("stopped", "stopped before anything was done")


@pytest.mark.slow
def test_a_command_begins_once_or_not_at_all_wherever_its_supervisor_is_killed(
    real: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SECONDS_TO_BEGIN", 0.5)
    ends = []
    for number in itertools.count(1):
        job = _running(real, f"open({str(tmp_path / 'begun.txt')!r}, 'a').write('begun {number}\\n')")
        stem = real.queue.store.files(job.number).stem
        script = (
            "import sys\nfrom pathlib import Path\nfrom dreambooth.runs.supervisor import supervise\n"
            "from tests.disk_changes import at_changes, killer\n"
            "at_changes(Path(sys.argv[1]).parent, killer(int(sys.argv[2])))\nsupervise(Path(sys.argv[1]), sys.argv[3:])"
        )
        arguments = [sys.executable, "-c", script, str(stem), str(number), *job.command]
        code = subprocess.run(arguments, check=False, cwd=Path(__file__).parents[3]).returncode
        ends.append(_until(real, job.number, _has_ended))
        if code == 0:
            break
    begun = Counter((tmp_path / "begun.txt").read_text(encoding="utf-8").split("begun ")[1:])
    assert len(ends) > 4 and max(begun.values()) == 1
    for number, end in enumerate(ends, 1):
        is_begun = f"{number}\n" in begun
        assert end.state == "finished" or (end.state == "failed" and (is_begun or end.reason.startswith("killed:"))), end
        assert is_begun or end.state == "failed", end


def test_a_second_supervisor_of_a_job_runs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreambooth.runs.supervisor", str(tmp_path / "1"), sys.executable, "-c", "print('ran')"]
    for _ in range(2):
        subprocess.run(command, check=True)
    (tmp_path / "1.log").unlink()
    subprocess.run(command, check=True)
    assert not (tmp_path / "1.log").exists()


@pytest.mark.parametrize("is_written", [False, True])
def test_a_server_killed_beside_the_end_of_a_paused_training_resumes_it_once(
    real: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    job = _running(real, SLEEPS, is_asked_to_stop=True, is_stop_sent=True, goes_on=True)
    write_json(real.queue.store.files(job.number).end, {"code": 130, "ended": 1.0})
    write = JobStore.write

    def die_at_its_end(store: JobStore, record: JobRecord) -> None:
        if record.number != job.number or is_written:
            write(store, record)
        if record.number == job.number:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(JobStore, "write", die_at_its_end)
        with pytest.raises(Killed):
            real.queue.tick()
    monkeypatch.setattr(JobQueue, "_start", lambda self, job: None)
    new = Desk.at(tmp_path / "projects")
    for _ in range(2):
        new.queue.tick()
    assert [(one.state, one.title) for one in new.queue.store.all()] == [("stopped", "Train"), ("waiting", "Go on training")]


def test_a_server_killed_while_it_sends_a_stop_does_not_send_a_second_one(
    real: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _running(real, SLEEPS, is_asked_to_stop=True)
    own = {"process": os.getpid(), "started": start_time(os.getpid())}
    write_json(real.queue.store.files(job.number).process, own)

    def die(number: int) -> None:
        raise Killed

    monkeypatch.setattr(job_queue, "signal_stop", die)
    with pytest.raises(Killed):
        real.queue.tick()
    Desk.at(tmp_path / "projects").queue.tick()
    write_json(real.queue.store.files(job.number).end, {"code": 130, "ended": 1.0})


def test_a_job_that_is_written_twice_in_one_moment_is_read_as_it_was_written_last(real: Desk) -> None:
    """Seen once: a job that was started in the millisecond in which it was added was started again, beside itself."""
    store = real.queue.store
    job = store.add(JobRecord(0, "train", "Train", "rex", ("true",), "true", "", 0.0))
    path = store.folder / "00001.json"
    moment = path.stat().st_mtime_ns
    for state in ("waiting", "running", "stopped"):
        store.write(replace(job, state=state))  # type: ignore[arg-type]
        os.utime(path, ns=(moment, moment))
        assert store.get(job.number).state == state


def test_the_number_of_a_damaged_job_is_not_given_to_another_one(real: Desk) -> None:
    damaged = real.queue.store.folder / "00007.json"
    damaged.parent.mkdir()
    damaged.write_text("{", encoding="utf-8")
    assert _running(real, SLEEPS).number == 8 and damaged.read_text(encoding="utf-8") == "{"


@pytest.mark.slow
def test_servers_and_jobs_that_are_killed_lose_no_job_and_run_none_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.web.killed_server", "--kills", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=Path(__file__).parents[3])
    assert done.returncode == 0 and done.stdout.startswith("web: "), done.stderr


@pytest.mark.parametrize(
    ("device", "queue"), [("", ""), ("cpu", ""), ("cuda", ""), ("cuda:0", ""), ("cuda:1", "cuda:1"), ("mps", "")]
)
def test_each_further_gpu_has_a_queue(device: str, queue: str) -> None:
    assert queue_of(device) == queue


@pytest.mark.parametrize(("what", "said"), [("save", "USR1"), ("previews", "USR2")])
def test_a_running_training_is_asked_for_a_checkpoint_or_previews_and_goes_on(
    real: Desk, what: Literal["save", "previews"], said: str
) -> None:
    code = (
        "import signal, time\nfor name in ('USR1', 'USR2'):\n"
        "    signal.signal(getattr(signal, 'SIG' + name), lambda *_, name=name: print(name, flush=True))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    job = real.queue.add(real.projects.named("rex"), "train", _command(code), title="Train")
    _until(real, job.number, lambda job: real.queue.store.lines(job) == ["ready"])
    real.queue.ask(job.number, what)
    assert _until(real, job.number, lambda job: len(real.queue.store.lines(job)) == 2).state == "running"
    assert real.queue.store.lines(job)[1] == said
    process = real.queue.store.files(job.number).read_process()
    assert process is not None
    os.kill(process.process, signal.SIGKILL)


def test_what_a_job_said_names_files_without_the_place_of_the_projects(real: Desk) -> None:
    project = real.projects.named("rex")
    code = f"print('wrote {project.runs}/1/model.safetensors'); print('error: {project.photos} is empty'); raise SystemExit(2)"
    job = _until(real, real.queue.add(project, "train", _command(code), title="Train").number, _has_ended)
    assert real.queue.store.lines(job)[0] == "wrote rex/runs/1/model.safetensors"
    assert job.reason == "error: rex/photos is empty"
