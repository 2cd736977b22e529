"""Which prediction and which end of the noise schedule a model has: what its files state, or what a person says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dreambooth.diffusion.prediction import Prediction
from dreambooth.errors import ModelFileError
from dreambooth.families.prediction_signs import TITLES, PredictionSign

__all__ = ["AskedPrediction", "ChosenPrediction", "choose_prediction", "prediction_text"]

_WAY_OUT = "If the file is wrong about this model, say what it predicts with --prediction epsilon or --prediction velocity."
_ONLY_EPSILON_OR_VELOCITY = "Models that predict the noise (epsilon) or the velocity can be used."


@dataclass(frozen=True)
class AskedPrediction:
    """What a person says of the model, which prevails over its files; None: as the files say."""

    prediction: Prediction | None = None
    has_zero_terminal_snr: bool | None = None

    @staticmethod
    def of(prediction: Literal["auto", "epsilon", "velocity"], zero_terminal_snr: bool | None) -> AskedPrediction:
        """From the settings of a base model."""
        return AskedPrediction(None if prediction == "auto" else prediction, zero_terminal_snr)


@dataclass(frozen=True)
class ChosenPrediction:
    """What the denoiser predicts, whether its schedule ends without signal, and why."""

    prediction: Prediction
    has_zero_terminal_snr: bool
    reason: str
    """What stated the prediction, for a person."""
    schedule_reason: str | None = None
    """What stated the end of the schedule; None if nothing did."""
    overruled: str | None = None
    """What the files state otherwise, if a person said something else."""


def choose_prediction(signs: Sequence[PredictionSign], asked: AskedPrediction) -> ChosenPrediction | None:
    """The prediction that the signs state or that was asked for; None if neither says anything.

    Raises ModelFileError when the signs disagree, name another prediction, or state zero terminal SNR for a model that
    predicts the noise: at the last timestep, the noise is then the input itself and nothing is learned.
    """
    if others := [sign.where for sign in signs if sign.other]:
        problem = f"this model predicts neither the noise nor the velocity (stated by {', '.join(others)})"
        raise ModelFileError(problem, hint=_ONLY_EPSILON_OR_VELOCITY)
    zero_signs = ", ".join(sign.where for sign in signs if sign.has_zero_terminal_snr)
    is_zero = bool(zero_signs) if asked.has_zero_terminal_snr is None else asked.has_zero_terminal_snr
    stated = {
        prediction: ", ".join(sign.where for sign in signs if sign.prediction == prediction)
        for prediction in TITLES
        if any(sign.prediction == prediction for sign in signs)
    }
    if asked.prediction is None and len(stated) > 1:
        said = " and ".join(f"{TITLES[prediction]} (stated by {where})" for prediction, where in stated.items())
        raise ModelFileError(f"the files of this model disagree about what it predicts: {said}", hint=_WAY_OUT)
    prediction = asked.prediction or next(iter(stated), None)
    if is_zero and prediction != "velocity":
        raise ModelFileError(_without_velocity(prediction, zero_signs), hint=_zero_way_out(asked))
    if prediction is None:
        return None
    return ChosenPrediction(
        prediction,
        is_zero,
        reason=f"as --prediction says{_agreeing(stated.get(prediction))}"
        if asked.prediction
        else f"stated by {stated[prediction]}",
        schedule_reason=_schedule_reason(asked, zero_signs),
        overruled=_overruled(asked, stated),
    )


def prediction_text(chosen: ChosenPrediction) -> str:
    """One sentence that names the prediction, the end of the schedule, and why."""
    text = f"The model predicts {TITLES[chosen.prediction]}: {chosen.reason}"
    if chosen.has_zero_terminal_snr:
        text += f"; its schedule ends without signal (zero terminal SNR): {chosen.schedule_reason}"
    elif chosen.schedule_reason is not None:
        text += f"; its schedule is the usual one: {chosen.schedule_reason}"
    return f"{text}." if chosen.overruled is None else f"{text}. {chosen.overruled}"


def _without_velocity(prediction: Prediction | None, zero_signs: str) -> str:
    stated = f"stated by {zero_signs}" if zero_signs else "as --zero-terminal-snr says"
    what = "nothing states that it predicts the velocity" if prediction is None else "it predicts the noise"
    return f"this model was trained with zero terminal SNR ({stated}), but {what}; only the velocity can be used with it"


def _zero_way_out(asked: AskedPrediction) -> str:
    if asked.has_zero_terminal_snr:
        return "Omit --zero-terminal-snr, or give --prediction velocity if the model predicts it."
    return "If it predicts the velocity, give --prediction velocity; if its schedule is the usual one, --no-zero-terminal-snr."


def _agreeing(where: str | None) -> str:
    return "" if where is None else f" (the files agree: {where})"


def _schedule_reason(asked: AskedPrediction, zero_signs: str) -> str | None:
    if asked.has_zero_terminal_snr is None:
        return f"stated by {zero_signs}" if zero_signs else None
    return "as --zero-terminal-snr says" if asked.has_zero_terminal_snr else "as --no-zero-terminal-snr says"


def _overruled(asked: AskedPrediction, stated: dict[Prediction, str]) -> str | None:
    others = [f"{TITLES[prediction]} ({where})" for prediction, where in stated.items() if prediction != asked.prediction]
    return f"Its files state otherwise: {', '.join(others)}." if asked.prediction and others else None
