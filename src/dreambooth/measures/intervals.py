"""Bootstrap confidence intervals of scores over prompts and seeds.

Shapes: P prompts, S seeds, R draws of the bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.diffusion.randomness import generator
from dreambooth.display import format_score

__all__ = ["CONFIDENCE", "Score", "bootstrap_interval", "score"]

CONFIDENCE = 0.95
"""Confidence level of the intervals."""


_DRAWS = 2000


@dataclass(frozen=True)
class Score:
    """A score with its encoder, since scores from different encoders are not comparable."""

    name: str
    value: float
    low: float | None
    """Lower end of the interval; None, like `high`, if a single image was measured."""
    high: float | None
    encoder: str

    @property
    def text(self) -> str:
        """Display text: `DINO 0.668 [0.641, 0.693] by facebook/dino-vits16`."""
        if self.low is None or self.high is None:
            return f"{self.name} {format_score(self.value)} by {self.encoder} (one image: no interval)"
        between = f"[{format_score(self.low)}, {format_score(self.high)}]"
        return f"{self.name} {format_score(self.value)} {between} by {self.encoder}"


def score(name: str, values_PS: Tensor, *, encoder: str, seed: int) -> Score:
    """The mean of values per prompt and seed, with its interval; `encoder` is the encoder's name."""
    interval = bootstrap_interval(values_PS, seed=seed, key=name)
    low, high = (None, None) if interval is None else interval
    return Score(name, float(values_PS.double().mean()), low, high, encoder)


def bootstrap_interval(values_PS: Tensor, *, seed: int, key: str) -> tuple[float, float] | None:
    """A percentile interval of the mean of `values_PS`, whose rows are prompts and whose columns are seeds.

    Pictures of one prompt are alike, and so are those of one seed, so neither may be drawn picture by picture: each draw takes
    P prompts and S seeds with replacement, and all pictures where they cross (Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1(2), 2007). What varies from picture to picture alone is counted three times, which errs on the wide
    side; what varies from seed to seed is counted (S - 1) / S times, which with few seeds is too little. With one prompt only
    seeds are drawn and the interval says nothing about other prompts. The draws depend on `seed` and `key` alone.

    Returns None for a single number, which shows no spread.
    """
    num_prompts, num_seeds = values_PS.shape
    if num_prompts * num_seeds == 1:
        return None
    prompts_RP = _times_drawn(num_prompts, seed, key, "prompts")
    seeds_RS = _times_drawn(num_seeds, seed, key, "seeds")
    means_R = ((prompts_RP @ values_PS.double().cpu()) * seeds_RS).sum(dim=1) / values_PS.numel()
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(means_R, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _times_drawn(num: int, seed: int, key: str, factor: str) -> Tensor:
    """How often each of `num` things is drawn in each of R draws of `num` with replacement, (R, num) float64."""
    drawn = torch.randint(num, (_DRAWS, num), generator=generator(seed, "bootstrap", key, factor))
    return torch.zeros((_DRAWS, num), dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
