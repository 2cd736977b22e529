"""Several processes: two real ones on the CPU, and what is refused before any is joined."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dreambooth.errors import SettingsError
from dreambooth.runtime import distributed
from dreambooth.runtime.distributed import start_processes
from dreambooth.runtime.processes import OneProcess
from dreambooth.runtime.shards import distribute, full_tensor

SCRIPT = Path(__file__).with_name("two_processes.py")
LAUNCH = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the first of two processes."""
    for name, value in LAUNCH.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.slow
def test_two_processes_act_as_one(port: str, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    result = subprocess.run(
        [*launcher, str(SCRIPT), "checks"],
        env={**os.environ, "TWO_PROCESSES_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [("raise", 1), ("kill", -9)])
def test_when_one_process_dies_the_other_ends_soon_and_says_why(mode: str, code: int, port: str) -> None:
    """Without a launcher, which would end the other too."""
    first, second = (
        subprocess.Popen(
            [sys.executable, str(SCRIPT), mode],
            env={**os.environ, **LAUNCH, "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    )
    _, last_words = second.communicate(timeout=60)
    died = time.monotonic()
    _, why = first.communicate(timeout=60)
    assert time.monotonic() - died < 5
    assert (first.returncode, second.returncode) == (1, code)
    assert re.search(r"RunError: another process of this run has ended or does not respond \(.*\)\n.*Its own message", why)
    assert ("out of paper" in last_words) == (mode == "raise")


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCH:
        monkeypatch.delenv(name, raising=False)
    assert start_processes("cpu") == OneProcess()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert start_processes("cpu") == OneProcess()


def test_one_process_opens_no_group() -> None:
    code = (
        "import sys\nfrom dreambooth.runtime.distributed import start_processes\n"
        "import torch.distributed\nstart_processes('cpu')\nsys.exit(torch.distributed.is_initialized())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCH}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("name", ["cuda:1", "mps", "gpu"])
def test_several_processes_share_no_named_device(name: str, launched: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=rf"device is '{name}', but 2 processes were started, .*\nOmit --device"):
        start_processes(name)


def test_more_processes_than_gpus_are_refused(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("LOCAL_WORLD_SIZE", "2")
    launched.setattr(torch.cuda, "is_available", lambda: True)
    launched.setattr(torch.cuda, "device_count", lambda: 1)
    for name in (None, "cuda"):
        with pytest.raises(SettingsError, match="2 processes were started on this machine, which has 1 CUDA GPU\n"):
            start_processes(name)


def test_each_process_takes_the_gpu_of_its_place(launched: pytest.MonkeyPatch) -> None:
    launched.setattr(torch.cuda, "is_available", lambda: True)
    launched.setattr(torch.cuda, "device_count", lambda: 4)
    launch = distributed._Launch(count=8, local_rank=3, local_count=4)
    assert distributed._device_of(launch, None) == torch.device("cuda", 3)
    assert distributed._device_of(launch, "cpu") == torch.device("cpu")
    launched.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed._device_of(launch, None) == torch.device("cpu")


def test_half_a_launch_is_explained(launched: pytest.MonkeyPatch) -> None:
    launched.delenv("RANK")
    launched.delenv("LOCAL_RANK")
    with pytest.raises(SettingsError, match=r"sets WORLD_SIZE=2, .* but not RANK, LOCAL_RANK\nStart with accelerate launch"):
        start_processes("cpu")
    launched.setenv("WORLD_SIZE", "two")
    with pytest.raises(SettingsError, match="the environment sets WORLD_SIZE='two': expected a number"):
        start_processes("cpu")


def test_deepspeed_is_refused(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(SettingsError, match="DeepSpeed, which is not supported\nChange it with: accelerate config"):
        start_processes("cpu")


def test_an_error_of_the_own_device_is_not_blamed_on_another_process() -> None:
    with pytest.raises(torch.OutOfMemoryError), distributed._translated():
        raise torch.OutOfMemoryError("no room")


def test_a_transfer_has_one_number_format_and_about_25_mib() -> None:
    gradients = [torch.zeros(2**20, dtype=dtype) for _ in range(20) for dtype in (torch.float32, torch.bfloat16)]
    buckets = list(distributed._buckets(gradients))
    assert sorted(map(id, gradients)) == sorted(id(gradient) for bucket in buckets for gradient in bucket)
    assert all(len({gradient.dtype for gradient in bucket}) == 1 for bucket in buckets)
    sizes = [sum(gradient.nbytes for gradient in bucket) // 2**20 for bucket in buckets]
    assert sizes == [28, 26, 28, 14, 24]
    assert list(distributed._buckets([])) == []


def test_what_is_not_spread_is_whole() -> None:
    weight = torch.ones(2)
    assert full_tensor(weight) is weight
    assert distribute(weight, torch.zeros(2)).tolist() == [1.0, 1.0]
