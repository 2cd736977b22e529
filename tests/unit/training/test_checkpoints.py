"""Checkpoints: bit-exact continuation, complete or absent, rotated only after new ones stand."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth.errors import RunError
from dreambooth.files import remove_leftovers
from dreambooth.runs.folder import RunFolder
from dreambooth.training import checkpoints
from dreambooth.training.checkpoints import (
    find_checkpoints,
    incomplete_checkpoints,
    remove_old_checkpoints,
    restore_checkpoint,
    save_checkpoint,
)
from dreambooth.training.loop import training_steps

MakeTiny = Callable[..., Any]


def advance(run: Any, last_step: int) -> None:
    list(training_steps(run.state, run.batches_at, last_step=last_step))


def save(run: Any, folder: RunFolder, *, is_scheduled: bool = True) -> Path:
    return save_checkpoint(folder, run.state, run.trainee.parameters, made_of={"base model": "abc"}, is_scheduled=is_scheduled)


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
def test_a_restored_run_goes_on_bit_for_bit(tiny: MakeTiny, tmp_path: Path, step: int, precision: str) -> None:
    straight, stopped, resumed = (tiny(precision=precision) for _ in range(3))
    advance(straight, 6)
    advance(stopped, step)
    save(stopped, RunFolder(tmp_path))
    [checkpoint] = find_checkpoints(RunFolder(tmp_path))
    assert (checkpoint.step, checkpoint.is_scheduled, checkpoint.made_of) == (step, True, {"base model": "abc"})
    restore_checkpoint(checkpoint, resumed.state, resumed.trainee.parameters)
    advance(resumed, 6)
    for name, parameter in straight.trainee.parameters.items():
        assert torch.equal(parameter, resumed.trainee.parameters[name]), name
    for name, value in straight.state.average.state().items():
        assert torch.equal(value, resumed.state.average.state()[name]), name
    assert straight.state.loss_scale.state() == resumed.state.loss_scale.state()


def test_an_interrupted_write_leaves_nothing_and_the_older_one_stays(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    advance(run, 1)
    save(run, folder)
    advance(run, 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        save(run, folder)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-000001"]
    leftover = folder.checkpoints / ".step-000002.partial-0123456789ab"  # as SIGKILL would leave it
    shutil.copytree(folder.checkpoint_at(1), leftover)
    assert [checkpoint.step for checkpoint in find_checkpoints(folder)] == [1]


def test_a_standing_checkpoint_is_not_written_again(tiny: MakeTiny, tmp_path: Path) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    advance(run, 1)
    path = save(run, folder)
    before = (path / "state.json").stat().st_mtime_ns
    assert save(run, folder, is_scheduled=False) == path
    assert (path / "state.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("keep", "left"), [(None, [1, 3, 4]), (1, [4]), (2, [3, 4])])
def test_old_ones_go_and_stops_go_as_soon_as_a_newer_one_stands(
    tiny: MakeTiny, tmp_path: Path, keep: int | None, left: list[int]
) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    for step, is_scheduled in ((1, True), (2, False), (3, True), (4, True)):
        advance(run, step)
        save(run, folder, is_scheduled=is_scheduled)
    remove_old_checkpoints(folder, keep=keep)
    assert [checkpoint.step for checkpoint in find_checkpoints(folder)] == left


def test_the_newest_stop_stays(tiny: MakeTiny, tmp_path: Path) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    for step, is_scheduled in ((1, True), (2, True), (3, False)):
        advance(run, step)
        save(run, folder, is_scheduled=is_scheduled)
    assert [path.name for path in remove_old_checkpoints(folder, keep=1)] == ["step-000001"]
    assert remove_old_checkpoints(RunFolder(tmp_path / "none"), keep=1) == []


def test_damage_is_named_with_the_way_out(tiny: MakeTiny, tmp_path: Path) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    advance(run, 1)
    path = save(run, folder)
    [checkpoint] = find_checkpoints(folder)
    (path / "optimizer.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match=r"optimizer.safetensors: the file is damaged.*\nDelete .*step-000001 to start again"):
        restore_checkpoint(checkpoint, run.state, run.trainee.parameters)
    without_digests = replace(checkpoint, files={})  # as earlier versions wrote them
    with pytest.raises(RunError, match=r"optimizer.safetensors: cannot be read .*\nDelete .*step-000001 to start again"):
        restore_checkpoint(without_digests, run.state, run.trainee.parameters)
    (path / "state.json").write_text("{}")
    with pytest.raises(RunError, match=r"state.json cannot be read .*\nDelete this folder"):
        find_checkpoints(folder)
    (path / "state.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="checkpoint format 99, this version of dreambooth reads formats 1 and 2"):
        find_checkpoints(folder)


def test_weights_of_another_trainee_are_refused(tiny: MakeTiny, tmp_path: Path) -> None:
    run, folder = tiny(), RunFolder(tmp_path)
    advance(run, 1)
    save(run, folder)
    [checkpoint] = find_checkpoints(folder)
    only_unet = {name: value for name, value in run.trainee.parameters.items() if name.startswith("unet.")}
    with pytest.raises(RunError, match="do not match this model"):
        restore_checkpoint(checkpoint, run.state, only_unet)


@pytest.fixture
def two(tiny: MakeTiny, tmp_path: Path) -> tuple[Any, RunFolder]:
    """A run with whole checkpoints of the steps 1 and 2."""
    run, folder = tiny(), RunFolder(tmp_path)
    for step in (1, 2):
        advance(run, step)
        save(run, folder)
    return run, folder


def test_a_whole_checkpoint_is_restored_without_reading_older_ones(
    two: tuple[Any, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = two
    hashed: list[Path] = []
    file_digest = checkpoints.file_digest
    monkeypatch.setattr(checkpoints, "file_digest", lambda path: (hashed.append(path), file_digest(path))[1])
    restore_checkpoint(find_checkpoints(folder)[-1], run.state, run.trainee.parameters)
    assert {path.parent for path in hashed} == {folder.checkpoint_at(2)}


@pytest.mark.parametrize("name", ["weights", "optimizer", "average"])
def test_a_flipped_bit_is_refused_and_the_older_whole_one_is_named(two: tuple[Any, RunFolder], name: str) -> None:
    run, folder = two
    before = {key: value.clone() for key, value in run.trainee.parameters.items()}
    path = folder.checkpoint_at(2) / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    for place in (20, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(RunError, match=rf"{name}.safetensors: .*\nDelete .*step-000002 to resume from step-000001"):
            restore_checkpoint(find_checkpoints(folder)[-1], run.state, run.trainee.parameters)
        data[place] ^= 1
    assert all(torch.equal(run.trainee.parameters[key], value) for key, value in before.items()), "nothing was changed"
    path.write_bytes(data)
    restore_checkpoint(find_checkpoints(folder)[-1], run.state, run.trainee.parameters)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"step": 2', '"step": 3'),
        ('"step": 2', '"step": "2"'),
        ('"step": 2', '"step": true'),
        ("abc", "abd"),
        ("true", "null"),
        ('"digest"', '"digets"'),
    ],
)
def test_a_changed_state_is_refused(two: tuple[Any, RunFolder], old: str, new: str) -> None:
    _, folder = two
    state = folder.checkpoint_at(2) / "state.json"
    assert old in state.read_text()
    state.write_text(state.read_text().replace(old, new))
    with pytest.raises(RunError, match=r"step-000002: the checkpoint's state.json cannot be read"):
        find_checkpoints(folder)


@pytest.mark.parametrize("change", [lambda tensor: tensor.half(), lambda tensor: tensor.reshape(-1)[:1]])
@pytest.mark.parametrize("name", ["weights", "average"])
def test_weights_of_another_shape_or_type_are_refused_without_digests_too(
    two: tuple[Any, RunFolder], name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    run, folder = two
    path = folder.checkpoint_at(2) / f"{name}.safetensors"
    tensors = load_file(path)
    first = next(key for key in tensors if key in run.trainee.parameters)
    save_file({**tensors, first: change(tensors[first]).contiguous()}, path)
    with pytest.raises(RunError, match=rf"{name}.safetensors: {first} is .*; the (model|moving average) has "):
        restore_checkpoint(replace(find_checkpoints(folder)[-1], files={}), run.state, run.trainee.parameters)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("call", ["unlink", "rmdir", "rename"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_an_old_one_is_removed(
    two: tuple[Any, RunFolder], monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A kill at each system call of the removal: state.json went first, and no resume accepted what was left."""
    run, folder = two
    original, left = getattr(os, call), [number]

    def dying(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(os, call, dying)
        remove_old_checkpoints(folder, keep=1)
    steps = [checkpoint.step for checkpoint in find_checkpoints(folder)]
    assert steps == ([1, 2] if (call, number) == ("rename", 1) else [2]) and incomplete_checkpoints(folder) == []
    restore_checkpoint(find_checkpoints(folder)[-1], run.state, run.trainee.parameters)
    remove_leftovers(folder.path, is_deep=True)
    assert all(entry.name.startswith("step-") for entry in folder.checkpoints.iterdir())


def test_what_an_earlier_version_left_half_removed_is_left_out(two: tuple[Any, RunFolder]) -> None:
    _, folder = two
    (folder.checkpoint_at(1) / "state.json").unlink()
    assert [checkpoint.step for checkpoint in find_checkpoints(folder)] == [2]
    assert incomplete_checkpoints(folder) == [folder.checkpoint_at(1)]


def test_a_checkpoint_of_an_earlier_version_has_no_digests_and_is_read(two: tuple[Any, RunFolder]) -> None:
    run, folder = two
    state = folder.checkpoint_at(2) / "state.json"
    values = json.loads(state.read_text())
    state.write_text(
        json.dumps({**{key: value for key, value in values.items() if key not in ("files", "digest")}, "format": 1})
    )
    [_, found] = find_checkpoints(folder)
    assert found.files == {} and found.made_of == {"base model": "abc"}
    restore_checkpoint(found, run.state, run.trainee.parameters)
