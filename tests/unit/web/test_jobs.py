"""Jobs are processes of their own: their states stand on the disk, and the reason of an end is named."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dreambooth.errors import RunError
from dreambooth.web.commands import Command
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord, queue_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the signals of these tests are POSIX's")

SLEEPS = "import time; print('ready', flush=True); time.sleep(60)"


def _command(code: str) -> Command:
    return Command((sys.executable, "-c", code), "dreambooth something")


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


@pytest.mark.parametrize(
    ("device", "queue"), [("", ""), ("cpu", ""), ("cuda", ""), ("cuda:0", ""), ("cuda:1", "cuda:1"), ("mps", "")]
)
def test_each_further_gpu_has_a_queue(device: str, queue: str) -> None:
    assert queue_of(device) == queue
