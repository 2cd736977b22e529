"""The base model's predictions for the class examples of every step, computed before the first update and kept on disk.

With `prior_target` prediction, a class example's target is not its noise but the base model's prediction for the same noisy
latent, timestep and caption, so only a change of the model is penalized (learning without forgetting, Li and Hoiem, arXiv
1606.09282, applied to the denoiser). All randomness is counter-based, so the examples of every step are known in advance, and
training needs no second model in memory.

A file holds the predictions of up to 16 steps in float16, (N, C, H, W), or one tensor each if their sizes differ, ordered by
step and slot. Its name is the digest of
everything that determines them: the base model, the arithmetic, and each example's latent, noise, timestep and caption.
Shapes: N examples, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dreambooth.data.examples import Example
from dreambooth.data.size import Size
from dreambooth.diffusion.conditioning import stack_texts
from dreambooth.diffusion.schedule import add_noise
from dreambooth.display import Display, counted
from dreambooth.errors import RunError
from dreambooth.families.family import Family
from dreambooth.files import atomic_file
from dreambooth.runtime.processes import Processes
from dreambooth.seals import sealed, unsealed
from dreambooth.training.batches import Drawn, Encoded, draw, stack_sizes
from dreambooth.training.denoiser import Denoiser

__all__ = ["BasePredictions", "Questions", "prediction_bytes"]

_VERSION = 2
_STEPS_PER_FILE = 16
_BATCH_SIZE = 4  # of every forward pass, including the last one of a file, because rounding depends on it
_TENSOR = "predictions"


@dataclass(frozen=True)
class Questions:
    """The inputs to the base model: the class examples of every step, with the random numbers that training draws."""

    examples_at: Callable[[int], Sequence[Example]]
    encoded: Encoded
    seed: int
    num_timesteps: int
    asked_of: str
    """Identifies the source of the predictions: the base model's digest and the arithmetic."""

    def drawn(self, step: int) -> list[tuple[Drawn, str]]:
        """Latent, noise, timestep and caption of each class example of a step."""
        return [
            (draw(example, self.encoded, seed=self.seed, step=step, num_timesteps=self.num_timesteps), example.caption)
            for example in self.examples_at(step)
            if example.role == "prior"
        ]

    def num_at(self, step: int) -> int:
        """Number of class examples of a step."""
        return sum(example.role == "prior" for example in self.examples_at(step))

    def key(self, steps: range) -> str:
        """SHA-256, in hex, of everything that determines the predictions of `steps`."""
        digest = hashlib.sha256(f"{_VERSION} {_BATCH_SIZE} {self.asked_of}".encode())
        for step in steps:
            for drawn, caption in self.drawn(step):
                digest.update(f"|{step} {drawn.t} {caption!r}|".encode())
                if drawn.sizes_6 is not None:
                    digest.update(drawn.sizes_6.numpy().tobytes())
                digest.update(drawn.x_0.contiguous().numpy().tobytes())
                digest.update(drawn.eps.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass
class BasePredictions:
    """The prediction files of a run; only the file in use is in memory."""

    folder: Path
    files: dict[range, Path]
    """Maps steps to the file that holds their predictions."""
    _open: tuple[range, Sequence[Tensor]] | None = field(default=None, repr=False)

    @classmethod
    def of_steps(cls, folder: Path, questions: Questions, *, first_step: int, last_step: int) -> BasePredictions:
        """The files for steps `first_step` to `last_step`; does not check which of them exist."""
        blocks = _blocks(first_step, last_step)
        return cls(folder, {steps: folder / f"{questions.key(steps)}.safetensors" for steps in blocks})

    def compute(self, questions: Questions, denoiser: Denoiser, processes: Processes, display: Display) -> int:
        """Compute all missing predictions, divided among the processes. Returns the number of predictions computed."""
        missing = [steps for steps, path in self.files.items() if not _is_whole(path)]
        if num_damaged := sum(self.files[steps].exists() for steps in missing):
            display.say(f"{counted(num_damaged, 'damaged file')} of the base model's predictions in {self.folder}: made again")
        processes.wait()  # all have looked before any process writes
        with processes.together():
            mine = processes.share(missing)
            total = sum(questions.num_at(step) for steps in mine for step in steps)
            if total:
                with display.progress("base model's predictions", total, "examples") as advance:
                    for steps in mine:
                        examples = [example for step in steps for example in questions.drawn(step)]
                        self._write(self.files[steps], _answers(examples, questions.encoded, denoiser, advance))
        return total

    def at(self, step: int) -> Sequence[Tensor]:
        """The predictions for the class examples of a step, ordered by slot, (C, H, W) float16 each.

        Raises RunError if the file is missing or damaged.
        """
        if self._open is None or step not in self._open[0]:
            steps = next(steps for steps in self.files if step in steps)
            self._open = steps, self._read(self.files[steps])
        steps, predictions = self._open
        num_slots = len(predictions) // len(steps)
        start = steps.index(step) * num_slots
        return predictions[start : start + num_slots]

    def remove(self) -> None:
        """Delete the files."""
        for path in self.files.values():
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Sequence[Tensor]:
        try:
            return _read(path)
        except (OSError, ValueError, SafetensorError, KeyError) as error:
            raise RunError(
                f"{path}: the base model's predictions cannot be read ({error})",
                hint="Remove the file if it exists, then resume the run: they are computed again.",
            ) from error

    def _write(self, path: Path, predictions: Sequence[Tensor]) -> None:
        is_one_size = len({one.shape for one in predictions}) == 1
        numbered = {f"{_TENSOR} {number}": one for number, one in enumerate(predictions)}
        with atomic_file(path) as partial:
            partial.write_bytes(sealed(save({_TENSOR: torch.stack(list(predictions))} if is_one_size else numbered)))


def _read(path: Path) -> Sequence[Tensor]:
    """One prediction for each example; those of one size are one tensor in the file."""
    data = path.read_bytes()
    unsealed(data)
    tensors = load(data)
    if _TENSOR in tensors:
        return tensors[_TENSOR].unbind()
    return [tensors[f"{_TENSOR} {number}"] for number in range(len(tensors))]


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except (OSError, ValueError, SafetensorError, KeyError):
        return False
    return True


def prediction_bytes(num: int, family: Family, size: Size) -> int:
    """Bytes on the disk of `num` predictions for images of `size`."""
    height, width = (side // family.downsampling for side in (size.height, size.width))
    return num * family.latent_channels * height * width * torch.float16.itemsize


def _blocks(first_step: int, last_step: int) -> list[range]:
    """Steps in blocks that begin at multiples of the block size, wherever a run begins; only the last one may be shorter."""
    first = (first_step - 1) // _STEPS_PER_FILE * _STEPS_PER_FILE
    return [range(start + 1, min(start + _STEPS_PER_FILE, last_step) + 1) for start in range(first, last_step, _STEPS_PER_FILE)]


@torch.no_grad()
def _answers(
    examples: Sequence[tuple[Drawn, str]], encoded: Encoded, denoiser: Denoiser, advance: Callable[[int], None]
) -> list[Tensor]:
    """The prediction for each example, (C, H, W) float16."""
    family = denoiser.components.family
    device = next(denoiser.components.denoiser.parameters()).device
    outputs: dict[int, Tensor] = {}
    for numbers in _batches(examples):
        batch = [examples[number] for number in numbers]
        padded = [*batch, *[batch[-1]] * (_BATCH_SIZE - len(batch))]
        x_0, eps = (torch.stack([getattr(drawn, name) for drawn, _ in padded]).to(device) for name in ("x_0", "eps"))
        t_B = torch.tensor([drawn.t for drawn, _ in padded], device=device)
        text = stack_texts([encoded.text[caption] for _, caption in padded]).to(device)
        sizes_B6 = stack_sizes([drawn.sizes_6 for drawn, _ in padded])
        sizes_B6 = None if sizes_B6 is None else sizes_B6.to(device)
        output = denoiser(add_noise(family.schedule, x_0, eps, t_B), t_B, text, sizes_B6)
        outputs.update(zip(numbers, output[: len(batch)].to("cpu", torch.float16), strict=True))
        advance(len(batch))
    return [outputs[number] for number in range(len(examples))]


def _batches(examples: Sequence[tuple[Drawn, str]]) -> Iterator[Sequence[int]]:
    """The numbers of the examples of each forward pass, which are of one size."""
    of_size: dict[torch.Size, list[int]] = {}
    for number, (drawn, _) in enumerate(examples):
        of_size.setdefault(drawn.x_0.shape, []).append(number)
    for numbers in of_size.values():
        yield from (numbers[start : start + _BATCH_SIZE] for start in range(0, len(numbers), _BATCH_SIZE))
