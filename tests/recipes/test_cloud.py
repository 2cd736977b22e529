"""The SkyPilot task: its keys are SkyPilot's, and its script survives the machine being taken away.

The script runs in bash as it is, with a home folder that is a machine, a folder that is the bucket, and a small `aws`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreambooth.runs.events import read_events

TASK = Path(__file__).parents[2] / "cloud" / "dreambooth.sky.yaml"

# From SkyPilot's reference of the task file (docs/source/reference/yaml-spec.rst) and its schema of resources.
TOP = {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "volumes", "file_mounts", "setup", "run", "config"}
ONE_RESOURCE = {
    "infra",
    "accelerators",
    "accelerator_args",
    "cpus",
    "memory",
    "instance_type",
    "use_spot",
    "disk_size",
    "disk_tier",
    "network_tier",
    "image_id",
    "ports",
    "labels",
    "autostop",
    "job_recovery",
    "max_hourly_cost",
}
RECOVERY = {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"}
WITHOUT_SPOT = {"lambda"}  # by SkyPilot's own table of what a cloud has not

# `aws s3 sync SOURCE DESTINATION` between folders. Small files come first. The call with the number DIE_AT ends half
# done, as it does when a machine dies.
AWS = r"""
import fnmatch, os, shutil, sys
from pathlib import Path
words, patterns, places = sys.argv[3:], [], []
while words:
    word = words.pop(0)
    if word == "--exclude":
        patterns.append(words.pop(0))
    elif not word.startswith("--"):
        places.append(Path(os.environ["BUCKETS"]) / word[5:] if word.startswith("s3://") else Path(word))
assert sys.argv[1:3] == ["s3", "sync"] and len(places) == 2, sys.argv
source, destination = places
def files(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
def differs(name):
    old, new = destination / name, source / name
    return not old.exists() or (old.stat().st_size, old.stat().st_mtime) != (new.stat().st_size, new.stat().st_mtime)
count = Path(os.environ["BUCKETS"]) / ".calls"
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
todo = sorted((name for name in files(source) if differs(name)), key=lambda name: (source / name).stat().st_size)
if number == int(os.environ.get("DIE_AT", "0")):
    todo = todo[: len(todo) // 2]
for name in todo:
    (destination / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / name, destination / name)
if number == int(os.environ.get("DIE_AT", "0")):
    os.kill(os.getppid(), 9)
    sys.exit(1)
if "--delete" in sys.argv:
    for name in set(files(destination)) - set(files(source)):
        (destination / name).unlink()
"""


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    return read


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `bin/aws`, the buckets, and no machine yet."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "buckets").mkdir()
    aws = tmp_path / "bin" / "aws"
    aws.write_text(f"#!{sys.executable}\n{AWS}", encoding="utf-8")
    aws.chmod(0o755)
    return tmp_path


def _environment(task: dict[str, Any], place: Path, **values: str) -> dict[str, str]:
    own = {name: str(value) for name, value in {**task["envs"], **task["secrets"]}.items() if value is not None}
    paths = [str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    machine = {"HOME": str(place / "home"), "PATH": os.pathsep.join(paths), "BUCKETS": str(place / "buckets")}
    return {**os.environ, **own, **machine, "BUCKET": "s3://kept", **values}


def test_its_keys_are_those_of_skypilot(task: dict[str, Any]) -> None:
    assert set(task) <= TOP
    resources = task["resources"]
    assert set(resources) <= ONE_RESOURCE | {"any_of"}
    assert set(resources["job_recovery"]) <= RECOVERY
    assert resources["job_recovery"]["strategy"] in ("FAILOVER", "EAGER_NEXT_REGION")
    assert 137 not in resources["job_recovery"]["recover_on_exit_codes"], "SkyPilot keeps this one for itself"
    for candidate in resources["any_of"]:
        assert set(candidate) <= ONE_RESOURCE
        assert re.fullmatch(r"\w+:1", candidate["accelerators"])
        assert not (candidate.get("use_spot") and candidate["infra"] in WITHOUT_SPOT)
    assert {candidate["infra"] for candidate in resources["any_of"]} == {"runpod", "vast", "lambda", "aws"}
    assert any(candidate.get("use_spot") for candidate in resources["any_of"])
    assert all(isinstance(source, str) for source in task["file_mounts"].values()), "no mounted bucket: two clouds have none"


def test_the_script_reads_no_variable_that_the_task_does_not_give(task: dict[str, Any]) -> None:
    script = task["setup"] + task["run"]
    read = set(re.findall(r"\$\{?([A-Z_]+)", script + "".join(task["file_mounts"].values())))
    assert read - {"HOME"} <= set(task["envs"])
    assert set(task["envs"]) <= read
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.slow
def test_it_is_interrupted_and_goes_on_on_another_machine(task: dict[str, Any], place: Path, photos: Path) -> None:
    more = "--num-prior-images 1 --prior-sampling-steps 2 --no-train-text-encoder --preview-steps 0 --validation-steps 0"
    values = {"MODEL": "toybox", "CLASS_WORD": "backpack", "STEPS": "40", "CHECKPOINT_STEPS": "10", "DEVICE": "cpu"}
    environment = _environment(task, place, **values, COPY_SECONDS="1", MORE=more)
    kept = place / "buckets" / "kept" / "rex" / "run"
    shutil.copytree(photos, place / "home" / "photos")
    with subprocess.Popen(
        ["bash", "-c", task["run"]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as first:
        try:
            deadline = time.monotonic() + 60
            while not list(kept.glob("checkpoints/*/state.json")) and time.monotonic() < deadline and first.poll() is None:
                time.sleep(0.05)
            first.send_signal(signal.SIGTERM)
            said, _ = first.communicate(timeout=60)
        finally:
            first.kill()
    assert first.returncode == 143, said
    stopped_at = max(int(state.parent.name.removeprefix("step-")) for state in kept.glob("checkpoints/*/state.json"))
    assert f"The run is saved at step {stopped_at}." in said
    assert 10 <= stopped_at < 40
    assert not (kept / "model.safetensors").exists()

    shutil.rmtree(place / "home")
    environment["HOME"] = str(place / "other" / "home")  # each cloud has a home folder of its own
    shutil.copytree(photos, place / "other" / "home" / "photos")
    half = kept / "checkpoints" / "step-000999"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"the machine died here")
    environment["COPY_SECONDS"] = "1000"  # only the last copy is made
    second = subprocess.run(
        ["bash", "-c", task["run"]], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"Resuming from step {stopped_at}\n" in second.stdout
    assert not (place / "home").exists()
    assert "class images:" not in second.stdout, "they came from the bucket"
    assert (kept / "model.safetensors").is_file()
    assert [event["step"] for event in read_events(kept / "events.jsonl") if event["event"] == "step"] == list(range(1, 41))
    assert [path.parent.name for path in (kept / "checkpoints").glob("*/state.json")] == ["step-000040"]


@pytest.mark.parametrize("die_at", [1, 2, 3])
def test_wherever_the_machine_dies_the_bucket_holds_a_whole_checkpoint(task: dict[str, Any], place: Path, die_at: int) -> None:
    function = re.search(r"^push\(\) \{\n.*?^\}$", task["run"], flags=re.DOTALL | re.MULTILINE)
    assert function is not None
    script = f"set -euo pipefail\nwork=$HOME/work\nkept=$BUCKET/rex\n{function[0]}\npush\n"

    def write(step: int) -> None:
        folder = place / "home" / "work" / "run" / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        for name in ("optimizer.safetensors", "state.json", "weights.safetensors"):
            (folder / name).write_text(f"{name} of step {step}", encoding="utf-8")

    def whole() -> list[str]:
        found = (place / "buckets" / "kept" / "rex" / "run" / "checkpoints").glob("*/state.json")
        return sorted(path.parent.name for path in found if len(list(path.parent.iterdir())) == 3)

    def marked() -> list[str]:
        found = (place / "buckets" / "kept" / "rex" / "run" / "checkpoints").glob("*/state.json")
        return sorted(path.parent.name for path in found)

    write(1)
    environment = _environment(task, place)
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 0
    assert whole() == ["step-1"]
    write(2)
    shutil.rmtree(place / "home" / "work" / "run" / "checkpoints" / "step-1")
    (place / "home" / "work" / ".half.partial-0123").write_text("being written", encoding="utf-8")
    died = {**environment, "DIE_AT": str(3 + die_at)}
    assert subprocess.run(["bash", "-c", script], env=died, check=False).returncode != 0
    assert whole() and whole() == marked(), "what says that it is whole is whole"
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 0
    assert whole() == marked() == ["step-2"]
    assert not list((place / "buckets").rglob("*.partial-*"))
