"""The session of the original program's README, typed as it stands there, on the miniature checkpoint and real photos.

Only what a miniature on a CPU calls for is different: pictures of 64 pixels, few steps, and no `--gpus 0,`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]

CLASS_IMAGES = """
python scripts/stable_txt2img.py --ddim_eta 0.0 --n_samples 8 --n_iter 1 --scale 10.0 --ddim_steps 50  --ckpt sd-v1-mini.ckpt
                                 --prompt "a photo of a backpack" --H 64 --W 64
"""
TRAINING = """
python main.py --base configs/stable-diffusion/v1-finetune_unfrozen.yaml
                -t
                --actual_resume sd-v1-mini.ckpt
                -n job
                --data_root photos
                --reg_data_root outputs/txt2img-samples/samples
                --class_word backpack
                data.params.train.params.size=64 data.params.reg.params.size=64
                lightning.trainer.max_steps=8 lightning.modelcheckpoint.params.every_n_train_steps=5
                lightning.callbacks.image_logger.params.batch_frequency=1000
"""
GENERATION = """
python scripts/stable_txt2img.py --ddim_eta 0.0
                                 --n_samples 8
                                 --n_iter 1
                                 --scale 10.0
                                 --ddim_steps 20
                                 --ckpt {checkpoint}
                                 --prompt "photo of a sks backpack" --H 64 --W 64
"""
PRUNING = "python scripts/prune-ckpt.py --ckpt {checkpoint}"


@pytest.fixture
def clone(tmp_path: Path, golden_checkpoint: Path, photos: Path) -> Path:
    """A folder in which the commands can be typed."""
    for name in ("main.py", "scripts", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "sd-v1-mini.ckpt").symlink_to(golden_checkpoint)
    (tmp_path / "photos").symlink_to(photos)
    return tmp_path


def typed(command: str, clone: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=clone, capture_output=True, text=True, check=False, timeout=120, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.slow
def test_the_session_of_the_readme(clone: Path) -> None:
    typed(CLASS_IMAGES, clone)
    outputs = clone / "outputs" / "txt2img-samples"
    class_images = sorted((outputs / "samples").iterdir())
    assert [path.name for path in class_images] == [f"{index:05d}.png" for index in range(8)]
    assert (outputs / "a photo of a backpack_7.png").samefile(class_images[7])

    said = typed(TRAINING, clone)
    assert "Each of the 8 class images was seen 1 time\n" in said
    (log,) = (clone / "logs").glob("photos*_job")
    checkpoints = log / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == ["epoch=000000.ckpt", "last.ckpt"]
    steps = [torch.load(checkpoints / name, weights_only=True)["global_step"] for name in ("epoch=000000.ckpt", "last.ckpt")]
    assert steps == [5, 8]

    last = checkpoints / "last.ckpt"
    typed(GENERATION.format(checkpoint=last.relative_to(clone)), clone)
    assert len(list((outputs / "samples").iterdir())) == 16
    learned = pixels(outputs / "photo of a sks backpack_0.png")
    assert learned.shape == (64, 64, 3)
    assert (pixels(class_images[0]) != learned).any()

    typed(PRUNING.format(checkpoint=last.relative_to(clone)), clone)
    pruned = checkpoints / "last-pruned.ckpt"
    assert pruned.stat().st_size < 0.51 * last.stat().st_size
