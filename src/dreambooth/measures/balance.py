"""Which step of a run is best: the balance of fidelity, prompt and prior as one number, its peak, and when it has passed.

Every score is normalized between two references that can be measured before training: the base model, which knows nothing of
the subject, and the photos themselves, which a fully overfitted model reproduces for any prompt. So no value here depends on
an encoder's scale:

    fidelity  0 at the base model, 1 at the photos    mean of
                  DINO      (x - base) / (photos - base)
                  CLIP-I    (x - base) / (photos - base)
    prompt    1 at the base model, 0 at the photos
                  CLIP-T    (x - photos) / (base - photos)
    prior     1 at the base model, 0 at the photos    mean of
                  PRES      (photos - x) / (photos - base)
                  drift     (far - x) / far, where far = 1 - PRES of the base model is how far its class images are from photos
                  DIV       x / base, since copies of one photo would not differ at all

    balance = (w_f fidelity + w_t prompt + w_p prior) / (w_f + w_t + w_p)

Each fraction is clamped to [0, 1]: a model closer to the photos than they are to each other is no better, and one outlier
cannot outweigh the rest. A measure whose two ends are closer than `SMALLEST_SPAN`, or reversed, is uninformative with these
encoders and is ignored, as is one that was not measured; a part without any measure is ignored with its weight. With the
weights 2, 1, 1 the untrained model and a model that copies photos both score exactly 0.5; better models score higher.

Why a mean and not a product: scores from few images are noisy, and one part near 0 would leave a product of the others' noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreambooth.measures.settings import SelectionSettings

__all__ = ["PARTS", "SMALLEST_SPAN", "Balance", "Span", "Weights", "balance", "best", "has_passed_peak", "smoothed", "spans"]

SMALLEST_SPAN = 0.02
"""Distance between a measure's two ends, in its own units, below which it is ignored: the noise of a few images is larger."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "fidelity": ("DINO", "CLIP-I"),
    "prompt": ("CLIP-T",),
    "prior": ("PRES", "drift", "DIV"),
}
"""The parts of the balance, and the measures that each part averages."""


@dataclass(frozen=True)
class Weights:
    """The weight of each part; each at least 0, not all 0."""

    fidelity: float
    prompt: float
    prior: float

    @classmethod
    def of(cls, settings: SelectionSettings) -> Weights:
        """The weights that settings choose."""
        return cls(settings.balance_fidelity, settings.balance_prompt, settings.balance_prior)


@dataclass(frozen=True)
class Span:
    """The values of a measure that map to 0 and to 1."""

    worst: float
    best: float

    def fraction(self, value: float) -> float:
        """The position of `value` between the worst and the best end, in [0, 1]."""
        return min(1.0, max(0.0, (value - self.worst) / (self.best - self.worst)))


@dataclass(frozen=True)
class Balance:
    """The balance of a step, and the parts of which it is the weighted mean."""

    value: float
    fidelity: float | None
    """None, like the other parts, if nothing measures it."""
    prompt: float | None
    prior: float | None


def spans(base: Mapping[str, float], photos: Mapping[str, float]) -> dict[str, Span]:
    """The ends of every measure that separates the base model from the photos, see the formula above.

    `base` holds the base model's scores by name, `photos` the photos' own: DINO and CLIP-I with each other, CLIP-T with the
    prompts. For a single photo DINO and CLIP-I are 1, the photo compared with itself.
    """
    ends = {name: (base.get(name), photos.get(name)) for name in ("DINO", "CLIP-I")}
    ends["CLIP-T"] = (photos.get("CLIP-T"), base.get("CLIP-T"))
    pres = base.get("PRES")
    ends["PRES"] = (photos.get("DINO"), pres)
    ends["drift"] = (None if pres is None else 1 - pres, 0.0)
    ends["DIV"] = (0.0, base.get("DIV"))
    is_lower_better = {"PRES", "drift"}
    found = {}
    for name, (worst, best_end) in ends.items():
        if worst is None or best_end is None:
            continue
        way = worst - best_end if name in is_lower_better else best_end - worst
        if way >= SMALLEST_SPAN:
            found[name] = Span(worst, best_end)
    return found


def balance(scores: Mapping[str, float], between: Mapping[str, Span], weights: Weights) -> Balance | None:
    """The balance of a step's scores. None if no part with a weight has a usable measure."""
    parts = {
        part: _mean([between[name].fraction(scores[name]) for name in names if name in scores and name in between])
        for part, names in PARTS.items()
    }
    weighed = [(getattr(weights, part), value) for part, value in parts.items() if value is not None]
    total = sum(weight for weight, _ in weighed)
    if total == 0:
        return None
    return Balance(sum(weight * value for weight, value in weighed) / total, **parts)


def smoothed(history: Mapping[int, float]) -> dict[int, float]:
    """Each balance averaged with its scored neighbors: `(before + 2 x + after) / 4`.

    The history is extended by its end values. With a dozen images the noise of a balance is about as large as the effect of a
    hundred training steps, so the highest of many values is mostly luck; a good model is also good a little earlier and later.
    """
    steps = sorted(history)
    values = [history[step] for step in steps]
    beside = zip([*values[:1], *values[:-1]], [*values[1:], *values[-1:]], strict=True)
    return {step: (before + 2 * history[step] + after) / 4 for step, (before, after) in zip(steps, beside, strict=True)}


def best(history: Mapping[int, float]) -> int:
    """The step with the highest smoothed balance; of equals the first, which has forgotten least. Needs at least one step."""
    values = smoothed(history)
    return min(values, key=lambda step: (-values[step], step))


def has_passed_peak(history: Mapping[int, float], *, margin: float, patience: int) -> bool:
    """Whether each of the last `patience` values, by step, is more than `margin` below the highest value before them.

    A single low value is often noise, hence `patience`. Later steps do not change the answer for earlier ones: the same history
    gives the same stopping step, whether or not the run was interrupted and resumed.
    """
    values = [history[step] for step in sorted(history)]
    before, last = values[:-patience], values[-patience:]
    return bool(before) and max(last) < max(before) - margin


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
