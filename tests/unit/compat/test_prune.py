"""A model file of the original's trainer, with all that training left in it, made small."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dreambooth.compat.prune import main, prune
from dreambooth.diffusion.schedule import ddpm_buffers, scaled_linear_schedule
from dreambooth.display import Display
from dreambooth.errors import ModelFileError, SettingsError

POSITION_IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
OUT, OUT_AVERAGE = "model.diffusion_model.out.2.weight", "model_ema.diffusion_modelout2weight"


@pytest.fixture(scope="session")
def tensors(golden_state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The miniature's tensors beside the persistent buffers that the original's models have."""
    buffers = ddpm_buffers(scaled_linear_schedule())
    return {**golden_state_dict, **buffers, POSITION_IDS: torch.arange(77).unsqueeze(0)}


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """A file in the layout of Lightning 1.5, with Adam's two moments of every trained parameter."""
    trained = [tensor for name, tensor in tensors.items() if name.startswith(("model.diffusion_model.", "cond_stage_model."))]
    moments = {
        number: {"step": 800, "exp_avg": torch.zeros_like(tensor), "exp_avg_sq": torch.zeros_like(tensor)}
        for number, tensor in enumerate(trained)
        if tensor.is_floating_point()
    }
    group = {"lr": 1e-6, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "params": list(moments)}
    callbacks = {"ModelCheckpoint": {"monitor": "val/loss_simple_ema", "best_model_path": "logs/epoch=000001.ckpt"}}
    everything = {
        "epoch": 3,
        "global_step": 801,
        "pytorch-lightning_version": "1.5.9",
        "state_dict": dict(tensors),
        "callbacks": callbacks,
        "optimizer_states": [{"state": moments, "param_groups": [group]}],
        "lr_schedulers": [],
    }
    torch.save(everything, path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Tensor]) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "last.ckpt", tensors)


@pytest.fixture
def last(trained: Path, tmp_path: Path) -> Path:
    """The file in a folder of its own."""
    path = tmp_path / "last.ckpt"
    path.hardlink_to(trained)
    return path


def test_weights_are_halved_and_everything_else_of_training_goes(
    last: Path, tensors: dict[str, Tensor], display: Display, said: Callable[[], str]
) -> None:
    before = last.read_bytes()
    done = prune(["--ckpt", str(last)], display)
    assert done.destination == last.with_name("last-pruned.ckpt")
    assert last.read_bytes() == before
    with zipfile.ZipFile(done.destination) as archive:  # what stable-diffusion-webui accepts
        assert all(re.fullmatch(r"[^/]+/(data/\d+|version|data\.pkl)", name) for name in archive.namelist())
    pruned = torch.load(done.destination, weights_only=True)
    assert "optimizer_states" not in pruned
    assert pruned["global_step"] == 801
    found = pruned["state_dict"]
    assert set(found) == {name for name in tensors if not name.startswith("model_ema.")}
    exact = {POSITION_IDS, *ddpm_buffers(scaled_linear_schedule())}
    for name, tensor in found.items():
        assert tensor.dtype == (tensors[name].dtype if name in exact else torch.float16), name
        assert torch.equal(tensor, tensors[name].to(tensor.dtype)), name
    assert found["betas"].dtype == torch.float32
    assert found[POSITION_IDS].dtype == torch.int64
    sizes = f"last.ckpt: {len(before) / 1e9:.2f} GB; last-pruned.ckpt: {done.destination.stat().st_size / 1e9:.2f} GB."
    assert sizes in said()
    assert done.destination.stat().st_size < len(before) / 5
    assert "Averaged weights were dropped; --keep_only_ema keeps them instead of the last weights." in said()


def test_rounded_schedules_of_earlier_prunings_are_recomputed(
    tmp_path: Path, tensors: dict[str, Tensor], display: Display
) -> None:
    path = write_checkpoint(tmp_path / "rounded.ckpt", {name: tensor.half() for name, tensor in tensors.items()})
    found = torch.load(prune(["--ckpt", str(path)], display).destination, weights_only=True)["state_dict"]
    assert torch.equal(found["alphas_cumprod"], tensors["alphas_cumprod"])
    assert torch.equal(found[POSITION_IDS], tensors[POSITION_IDS])


def test_full_precision_is_kept_when_asked_for(last: Path, tensors: dict[str, Tensor], display: Display) -> None:
    found = torch.load(prune(["--ckpt", str(last), "--fp32"], display).destination, weights_only=True)["state_dict"]
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: tensors[name].dtype for name in found}
    assert torch.equal(found[OUT], tensors[OUT])


def test_averages_are_taken_when_asked_for(
    last: Path, tensors: dict[str, Tensor], display: Display, said: Callable[[], str]
) -> None:
    found = torch.load(prune(["--ckpt", str(last), "--keep_only_ema"], display).destination, weights_only=True)["state_dict"]
    assert torch.equal(found[OUT], tensors[OUT_AVERAGE].half())
    assert not torch.equal(found[OUT], tensors[OUT].half())
    assert not any(name.startswith("model_ema.") for name in found)
    assert "Averaged weights were dropped" not in said()


def test_averages_that_are_not_there_are_not_taken(tmp_path: Path, tensors: dict[str, Tensor], display: Display) -> None:
    single = {name: tensor for name, tensor in tensors.items() if not name.startswith("model_ema.")}
    path = write_checkpoint(tmp_path / "single.ckpt", single)
    with pytest.raises(ModelFileError, match=r"has no averaged weights \(model_ema\.\*\)") as caught:
        prune(["--ckpt", str(path), "--keep_only_ema"], display)
    assert caught.value.hint == "Omit --keep_only_ema."
    assert [entry.name for entry in tmp_path.iterdir()] == ["single.ckpt"]


def test_a_safetensors_file_stays_one(last: Path, display: Display) -> None:
    full = prune(["--ckpt", str(last), "--fp32"], display).destination
    from dreambooth.recipes.convert import convert
    from dreambooth.schema.verbs import ConvertSettings

    source = last.with_name("v1.5.safetensors")
    convert(ConvertSettings(source=str(full), destination=source), display)
    done = prune(["--ckpt", str(source)], display)
    assert done.destination == last.with_name("v1.5-pruned.safetensors")
    with safe_open(done.destination, framework="pt") as file:
        assert file.get_tensor(OUT).dtype == torch.float16
        assert file.metadata()["global_step"] == "801"


def test_nothing_is_overwritten(last: Path, display: Display) -> None:
    pruned = last.with_name("last-pruned.ckpt")
    pruned.write_text("mine")
    with pytest.raises(ModelFileError) as caught:
        prune(["--ckpt", str(last)], display)
    assert caught.value.text == f"{pruned}: already exists\nRemove or rename it, then prune again."
    assert pruned.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ((), ("--ckpt is missing: the model file to prune",)),
        (("--ckptt", "x"), ("unknown option --ckptt; did you mean --ckpt?", "--ckpt is missing: the model file to prune")),
        (("last.ckpt",), ("unexpected argument 'last.ckpt'", "--ckpt is missing: the model file to prune")),
    ],
)
def test_wrong_command_lines(arguments: tuple[str, ...], problems: tuple[str, ...], display: Display) -> None:
    with pytest.raises(SettingsError) as caught:
        prune(arguments, display)
    assert caught.value.problems == problems
    assert caught.value.hint == "See `python scripts/prune_ckpt.py --help`."


def test_what_is_no_file(tmp_path: Path, display: Display) -> None:
    with pytest.raises(ModelFileError, match="owner/name: no such file"):
        prune(["--ckpt", "owner/name"], display)  # no hub id here: a pruned file goes beside the file
    with pytest.raises(ModelFileError, match="is a folder, not a file") as caught:
        prune(["--ckpt", str(tmp_path)], display)
    assert caught.value.hint == "Convert a folder with `dreambooth convert FOLDER NAME.ckpt`."


def test_a_mistake_ends_in_words_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.ckpt"
    assert main(["--ckpt", str(missing)]) == 1
    assert main([]) == 2
    assert f"error: {missing}: no such file" in capsys.readouterr().err
