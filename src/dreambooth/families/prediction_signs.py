"""How a model says what it predicts: marker tensors, text metadata, a YAML beside the file, the scheduler of a folder.

Stable Diffusion's tensors are the same for every prediction, so nothing else tells. A model that is used with another
prediction than its own makes noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dreambooth.diffusion.prediction import Prediction

__all__ = ["MARKERS", "TITLES", "PredictionSign", "consistent_metadata", "prediction_markers", "prediction_signs"]

TITLES: Mapping[Prediction, str] = {"epsilon": "the noise (epsilon)", "velocity": "the velocity (v-prediction)"}
"""The predictions in sentences."""

MARKERS = frozenset({"v_pred", "ztsnr"})
"""The last component of the names of tensors that are no weights and only mark the prediction."""

_PREDICTIONS = ("modelspec.prediction_type", "modelspec.predict_key")
_METADATA = (*_PREDICTIONS, "ss_v_parameterization", "ss_zero_terminal_snr")
_SCHEDULER = ("prediction_type", "rescale_betas_zero_snr")
_YAML = ("model.params.parameterization", "model.params.denoiser_config.params.scaling_config.target")
_VELOCITY = {"v", "v-prediction", "v-pred", "vpred", "velocity", "vparam", "vscaling"}
_EPSILON = {"eps", "epsilon", "epsscaling", "noise"}
_UNKNOWN = {"", "none", "null", "unknown", "n/a"}
_ZERO_TERMINAL = ("rescale_betas_zero_snr", "ss_zero_terminal_snr")
_EDM = ("edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean", "edm_std")
_FALSE = {"", "false", "0", "none", "null"}


@dataclass(frozen=True)
class PredictionSign:
    """One place where a model states its prediction."""

    where: str
    """For a person: the tensor or the key with its value."""
    prediction: Prediction | None = None
    """None when the sign is about the noise schedule alone, or names something else."""
    has_zero_terminal_snr: bool = False
    other: str | None = None
    """A prediction that is neither the noise nor the velocity, as the model calls it."""


def prediction_signs(
    *,
    names: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    original_config: Mapping[str, Any] | None = None,
) -> tuple[PredictionSign, ...]:
    """Every sign in the names of a model's tensors, in the text metadata of its file, in the scheduler_config.json of its
    folder, and in the entries (dotted key to value) of a YAML in the original configuration language.
    """
    signs = [sign for name in sorted(names) if (sign := _of_tensor(name)) is not None]
    stated = (
        *((key, (metadata or {}).get(key)) for key in _METADATA),
        *((key, (scheduler or {}).get(key)) for key in _SCHEDULER),
        *((key, (original_config or {}).get(key)) for key in _YAML),
    )
    return (*signs, *(sign for key, value in stated if value is not None and (sign := _of_value(key, value)) is not None))


def prediction_markers(prediction: Prediction, *, has_zero_terminal_snr: bool) -> dict[str, Tensor]:
    """The empty tensors by which a single file states that it predicts the velocity; none for the noise."""
    names = [*(["v_pred"] if prediction == "velocity" else []), *(["ztsnr"] if has_zero_terminal_snr else [])]
    return {name: torch.empty(0) for name in names}


def consistent_metadata(metadata: Mapping[str, str], prediction: Prediction, *, has_zero_terminal_snr: bool) -> dict[str, str]:
    """The metadata without entries that state another prediction or another end of the schedule, or call it unknown."""
    unknown = {key for key in _PREDICTIONS if _of_value(key, metadata.get(key, "")) is None}
    wrong = {
        key
        for key in _METADATA
        if (value := metadata.get(key)) is not None
        and (sign := _of_value(key, value)) is not None
        and (
            sign.other is not None
            or sign.prediction not in (None, prediction)
            or (sign.has_zero_terminal_snr and not has_zero_terminal_snr)
        )
    }
    return {key: value for key, value in metadata.items() if key not in wrong | unknown}


def _of_tensor(name: str) -> PredictionSign | None:
    marker = name.rpartition(".")[2]
    if marker not in MARKERS:
        return PredictionSign(f"the tensor {name}", other=name) if name.endswith(_EDM) else None
    is_velocity = marker == "v_pred"
    return PredictionSign(f"the tensor {name}", "velocity" if is_velocity else None, has_zero_terminal_snr=not is_velocity)


def _of_value(key: str, value: Any) -> PredictionSign | None:
    text = str(value).strip().lower().replace("_", "-")
    where = f"{key} {value}"
    if key in _ZERO_TERMINAL:
        return None if text in _FALSE else PredictionSign(where, has_zero_terminal_snr=True)
    if key == "ss_v_parameterization":
        return None if text in _FALSE else PredictionSign(where, "velocity")
    text = text.rpartition(".")[2]  # a YAML names a class with its module
    if text in _UNKNOWN:
        return None
    if text in _VELOCITY:
        return PredictionSign(where, "velocity")
    return PredictionSign(where, "epsilon") if text in _EPSILON else PredictionSign(where, other=str(value))
