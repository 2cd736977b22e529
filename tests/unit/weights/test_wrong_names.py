"""Files of other programs under names with prefixes, or without a part: read, or called what they are."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.safetensors_file import read_safetensors
from dreambooth.weights.write import write_diffusers_folder

Tensors = dict[str, Tensor]
Save = Callable[[Tensors], Path]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
PROJECTION = "cond_stage_model.transformer.text_projection.weight"


def without(checkpoint: Tensors, *prefixes: str) -> Tensors:
    return {name: tensor for name, tensor in checkpoint.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("rename", "note"),
    [
        (lambda name: f"module.{name}", "the prefix module. in key names was removed"),
        (lambda name: f"_orig_mod.{name}", "the prefix _orig_mod. in key names was removed"),
        (lambda name: name.replace(UNET, f"{UNET}_orig_mod."), "the prefix _orig_mod. in key names was removed"),
        (lambda name: name.replace(VAE, f"{VAE}module."), "the prefix module. in key names was removed"),
        (lambda name: name.removeprefix("model."), "the UNet's keys lack the prefix model.; it was added"),
        (lambda name: f"ldm.{name}", "the prefix ldm. in key names was removed"),
        (lambda name: f"model.{name}", "the prefix model. in key names was removed"),
    ],
)
def test_prefixes_of_wrappers_are_read(
    tiny: ModelWeights, checkpoint: Tensors, save: Save, rename: Callable[[str], str], note: str
) -> None:
    read = read_model(str(save({rename(name): tensor for name, tensor in checkpoint.items()})))
    assert read.digest() == tiny.digest()
    assert read.report.notes == (note,)
    assert read.report.leftover == ()


def test_two_tensors_of_one_plain_name_are_both_told(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    checkpoint[f"module.{UNET}out.2.bias"] = torch.zeros(4)
    read = read_model(str(save(checkpoint)))
    assert read.digest() == tiny.digest()
    assert read.report.leftover == (f"module.{UNET}out.2.bias",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_in_a_folder_are_read(tiny: ModelWeights, tmp_path: Path, prefix: str) -> None:
    folder = tmp_path / "model"
    write_diffusers_folder(folder, tiny, dtype=None, metadata={})
    for path in folder.glob("*/*.safetensors"):
        save_file({prefix + name: tensor for name, tensor in load_file(path).items()}, path)
    read = read_model(str(folder))
    assert read.digest() == tiny.digest()
    assert read.report.notes == (f"the prefix {prefix} in key names was removed",)


def test_a_file_of_averages_alone_is_named(checkpoint: Tensors, save: Save) -> None:
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", "") if name.startswith(UNET) else name: tensor
        for name, tensor in checkpoint.items()
    }
    with pytest.raises(ModelFileError, match=r"only averaged weights of the UNet \(model_ema\.\*\)"):
        read_model(str(save(averages)))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (VAE, r"the file has no VAE \(no tensors first_stage_model\.\*\)"),
        (TEXT, r"the file has no text encoder \(no tensors cond_stage_model\.\*\)"),
        (UNET, r"a checkpoint without a UNet \(it has a VAE and a text encoder\)"),
    ],
)
def test_a_file_without_a_part_is_named(checkpoint: Tensors, save: Save, missing: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_model(str(save(without(checkpoint, missing))))


def test_all_missing_parts_are_told(checkpoint: Tensors, save: Save) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_model(str(save(without(checkpoint, VAE, TEXT))))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("shape", [(-1, 1), (-1, 1, 1), (-1, 1, 1, 1)])
def test_biases_of_the_vaes_attention_with_more_axes(
    tiny: ModelWeights, checkpoint: Tensors, save: Save, shape: tuple[int, ...]
) -> None:
    changed = [name for name in checkpoint if ".attn_1." in name and name.endswith("bias") and ".norm" not in name]
    assert len(changed) == 8
    read = read_model(str(save(checkpoint | {name: checkpoint[name].reshape(shape) for name in changed})))
    assert read.digest() == tiny.digest()


@pytest.mark.parametrize("has_average", [False, True])
def test_matrices_around_the_attention_are_convolutions(
    tiny: ModelWeights, checkpoint: Tensors, save: Save, has_average: bool
) -> None:
    changed = {
        name: tensor[:, :, 0, 0] for name, tensor in checkpoint.items() if ".proj_" in name and tensor.shape[2:] == (1, 1)
    }
    changed = {name: tensor for name, tensor in changed.items() if name.startswith(UNET)}
    assert len(changed) == 8
    tensors = checkpoint | changed
    if has_average:
        averages = {
            f"model_ema.{name[6:].replace('.', '')}": tensor.clone()
            for name, tensor in tensors.items()
            if name.startswith(UNET)
        }
        tensors |= averages
    read = read_model(str(save(tensors)))
    assert read.digest() == tiny.digest()
    assert read.report.notes == ("the UNet's projections around attention are matrices; they are used as 1x1 convolutions",)


def test_a_larger_token_table_is_told(golden_state_dict: Tensors, tmp_path: Path) -> None:
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    table = golden_state_dict[name]
    torch.save({**golden_state_dict, name: torch.cat([table, table[:2]])}, tmp_path / "model.ckpt")
    (warning,) = read_model(str(tmp_path / "model.ckpt")).report.warnings
    assert warning.startswith("The text encoder has 2 tokens more than CLIP's tokenizer: words that another program added")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypavif", "an AVIF image"),
        (b"\0\0\0\x20ftypheic", "a HEIC image"),
        (b"\0\0\0\x20ftypisom", "a video"),
        (b"II*\0", "a TIFF image"),
    ],
)
def test_pictures_given_as_a_model_are_named(tmp_path: Path, head: bytes, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(head + b"\0" * 200)
    with pytest.raises(ModelFileError, match=f"{kind}, not a model file"):
        read_model(str(path))


def test_a_bare_vae_is_offered_its_use(checkpoint: Tensors, save: Save) -> None:
    vae = {name: tensor for name, tensor in checkpoint.items() if name.startswith(VAE)}
    with pytest.raises(ModelFileError, match="this is a bare VAE") as caught:
        read_model(str(save(vae)))
    assert caught.value.hint is not None and caught.value.hint.endswith("--vae FILE uses this VAE.")


def test_the_projection_of_a_whole_clip_is_no_wrong_prefix(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    read = read_model(str(save(checkpoint | {PROJECTION: torch.zeros(64, 64)})))
    assert read.digest() == tiny.digest()
    assert read.report.leftover == ()
    assert read.report.notes == (f"{PROJECTION} is not used by Stable Diffusion 1 and was left out",)


def with_metadata(path: Path, metadata: Any) -> Path:
    """Put something into the header of a file that the format does not allow there."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps({**json.loads(raw[8 : 8 + length]), "__metadata__": metadata}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
    return path


def test_numbers_in_the_metadata_are_read_as_text(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    path = with_metadata(save(checkpoint), {"ss_steps": 100, "by": "x", "list": [1, None], "modelspec.resolution": "64x64"})
    read = read_model(str(path))
    assert read.family.resolution == 64
    assert read.digest() == tiny.digest()
    assert read.metadata == {"by": "x", "list": "[1, null]", "modelspec.resolution": "64x64", "ss_steps": "100"}


def test_a_damaged_header_is_still_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)
    raw = path.read_bytes()
    with_metadata(path, {"ss_steps": 100})
    assert torch.equal(read_safetensors(path)[0]["a"], torch.ones(3))
    path.write_bytes(path.read_bytes().replace(b"F32", b"F99"))
    with pytest.raises(ModelFileError, match="damaged"):
        read_safetensors(path)
    path.write_bytes(raw)
    with_metadata(path, {"ss_steps": 100})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFileError):
        read_safetensors(path)


def test_metadata_are_in_one_order(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path, metadata={str(number): "x" for number in range(30)})
    assert list(read_safetensors(path)[1]) == sorted(map(str, range(30)))
