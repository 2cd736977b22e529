"""A training where everything around it is wrong: no home, no room for temporary files, few open files and so on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.runs.events import read_events

PLACE = """
import errno, fcntl, os, resource, sys, time

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # 64 open files
TEMPORARY, WRITES = os.environ["TMPDIR"], os.O_WRONLY | os.O_RDWR | os.O_CREAT


def hook(event, arguments):  # no room in the folder for temporary files
    if event in ("open", "os.mkdir") and str(arguments[0]).startswith(TEMPORARY):
        if event == "os.mkdir" or arguments[2] & WRITES:
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))


sys.addaudithook(hook)
now = [time.time()]


def backwards():  # the clock is set back again and again
    now[0] -= 3600
    return now[0]


def no_locks(*_):  # a network share without locks
    raise OSError(errno.ENOLCK, "No locks available")


time.time, fcntl.flock = backwards, no_locks
"""


@pytest.mark.slow
def test_a_training_where_nothing_is_as_usual(small_model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "sitecustomize.py").write_text(PLACE, encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    flags = (
        "--class-word backpack --num-prior-images 1 --prior-sampling-steps 1 --steps 2 --checkpoint-steps 1 "
        "--preview-steps 0 --validation-steps 2 --learning-rate 1e-4"
    )
    command = [sys.executable, "-m", "dreambooth", "train", "--model", small_model, "--photos", photos, *flags.split()]
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "TMPDIR")}
    odd = {
        **environment,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "hostile"), environment.get("PYTHONPATH", "")]),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    runs = {"usual": dict(os.environ), "odd": odd}
    for name, variables in runs.items():
        typed = ["sh", "-c", 'exec "$@"' + (" >&- 2>error.txt <&-" if name == "odd" else ""), "sh", *map(str, command)]
        output = ["--output", str(tmp_path / name / "run")]
        done = subprocess.run([*typed, *output], env=variables, cwd=tmp_path, capture_output=True, timeout=240, check=False)
        said = (tmp_path / "error.txt").read_text() if name == "odd" else done.stderr.decode()
        assert done.returncode == 0, said
    models = [load_file(tmp_path / name / "run" / "model.safetensors") for name in runs]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    events = read_events(tmp_path / "odd" / "run" / "events.jsonl")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2]
    assert events[0]["time"] > events[-1]["time"], "the clock went backwards"
    assert not [*(tmp_path / "temporary").iterdir()]
