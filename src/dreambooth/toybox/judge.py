"""The judge: a small convolutional network that classifies what an image of the world shows.

It is trained on renderings, whose contents are known, and counts attributes in images that a model made. It only works for
images of the world. Shapes: B images, C channels, H and W height and width, K classes of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth.errors import ModelFileError
from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import CLASSES, COLOURS, PLACES, Look, Scene

__all__ = ["ATTRIBUTES", "SIDE", "UNASKED", "Judge", "load_judge", "look_scores", "look_truth", "truth"]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "class": CLASSES,
    "place": tuple(PLACES),
    "pattern": tuple(PATTERNS),
    "primary": tuple(COLOURS),
    "secondary": tuple(COLOURS),
    "accent": tuple(COLOURS),
}
"""Attribute to its words, in the order of the judge's outputs."""

SIDE = 64
"""Width and height in pixels of the judge's input."""

_WIDTHS = (32, 64, 128, 192)
_WITHOUT_ACCENT = ("ball", "vase")
UNASKED = -1
"""Label for an attribute that the image does not show."""


class Judge(nn.Module):
    """Maps pixels in [-1, 1], (B, 3, 64, 64), to log-probabilities for each attribute, (B, K)."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, _WIDTHS[0], 3, stride=2, padding=1)
        inputs = (_WIDTHS[0], *_WIDTHS[:-1])
        self.levels = nn.ModuleList(
            _Level(width_in, width, stride=1 if level == 0 else 2)
            for level, (width_in, width) in enumerate(zip(inputs, _WIDTHS, strict=True))
        )
        self.norm = nn.GroupNorm(8, _WIDTHS[-1])
        self.heads = nn.ModuleDict({name: nn.Linear(2 * _WIDTHS[-1], len(words)) for name, words in ATTRIBUTES.items()})

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Inputs of the attribute heads, (B, 384): mean and maximum over the image."""
        hidden = self.entry(pixels_BCHW)
        for level in self.levels:
            hidden = level(hidden)
        hidden = F.silu(self.norm(hidden)).flatten(2)
        return torch.cat([hidden.mean(dim=2), hidden.amax(dim=2)], dim=1)

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        """Log-probabilities by attribute."""
        features = self.features(pixels_BCHW)
        return {name: head(features).float().log_softmax(dim=1) for name, head in self.heads.items()}


class _Level(nn.Module):
    def __init__(self, width_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(width_in, width, 1, stride=stride)
        self.norm_1, self.norm_2 = nn.GroupNorm(8, width_in), nn.GroupNorm(8, width)
        self.conv_1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.conv_1(F.silu(self.norm_1(hidden)))
        result: Tensor = self.shortcut(hidden) + self.conv_2(F.silu(self.norm_2(inner)))
        return result


def look_truth(look: Look) -> dict[str, int]:
    """The true label of each attribute of an object; -1 where it does not show the attribute."""
    words = {
        "class": look.class_word,
        "pattern": look.pattern,
        "primary": look.primary,
        "secondary": None if look.pattern == "plain" else look.secondary,
        "accent": None if look.class_word in _WITHOUT_ACCENT else look.accent,
    }
    return {name: UNASKED if word is None else ATTRIBUTES[name].index(word) for name, word in words.items()}


def truth(scene: Scene) -> dict[str, int]:
    """The true labels of a scene: those of its object, and its place."""
    return {**look_truth(scene.look), "place": ATTRIBUTES["place"].index(scene.place)}


def look_scores(answers: Mapping[str, Tensor], looks: Sequence[Look]) -> Tensor:
    """How well each of `looks` of one class explains each image, (B, looks): the sum of log-probabilities.

    An image is identified as the look with the highest score. All looks must show the same attributes.
    """
    scores = []
    for look in looks:
        right = look_truth(look)
        names = [name for name in ("pattern", "primary", "secondary", "accent") if right[name] != UNASKED]
        scores.append(torch.stack([answers[name][:, right[name]] for name in names]).sum(dim=0))
    return torch.stack(scores, dim=1)


def load_judge(path: Path) -> Judge:
    """Load the trained judge on the CPU, in float32, without gradients.

    Raises ModelFileError when the file does not exist, cannot be read or holds something else.
    """
    hint = "Train it with `python -m experiments.toybox train`, or set --judge to the judge.safetensors of such a run."
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; expected the weights of the judge", hint=hint)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: cannot be read as a .safetensors file: {error}", hint=hint) from error
    with torch.device("meta"):
        judge = Judge()
    expected = {name: parameter.shape for name, parameter in judge.named_parameters()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise ModelFileError(f"{path}: the tensors do not match the judge", hint=hint)
    judge.load_state_dict(tensors, assign=True)
    return judge.eval().requires_grad_(False)
