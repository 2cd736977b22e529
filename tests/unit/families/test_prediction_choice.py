"""Which statement prevails, and what each contradiction is called."""

from __future__ import annotations

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.families.prediction_choice import AskedPrediction, choose_prediction, prediction_text
from dreambooth.families.prediction_signs import PredictionSign

V = PredictionSign("the tensor v_pred", "velocity")
EPS = PredictionSign("prediction_type epsilon", "epsilon")
ZERO = PredictionSign("the tensor ztsnr", has_zero_terminal_snr=True)
NOTHING = AskedPrediction()


def text(signs: list[PredictionSign], asked: AskedPrediction = NOTHING) -> str:
    chosen = choose_prediction(signs, asked)
    assert chosen is not None
    return prediction_text(chosen)


def test_without_a_statement_nothing_is_chosen() -> None:
    assert choose_prediction([], NOTHING) is None
    assert choose_prediction([], AskedPrediction(has_zero_terminal_snr=False)) is None


def test_what_the_files_state_is_said_with_its_place() -> None:
    assert text([EPS]) == "The model predicts the noise (epsilon): stated by prediction_type epsilon."
    chosen = choose_prediction([V, ZERO], NOTHING)
    assert chosen is not None
    assert (chosen.prediction, chosen.has_zero_terminal_snr) == ("velocity", True)
    assert text([V, ZERO]) == (
        "The model predicts the velocity (v-prediction): stated by the tensor v_pred; "
        "its schedule ends without signal (zero terminal SNR): stated by the tensor ztsnr."
    )


def test_a_person_prevails_and_is_told_what_the_files_state() -> None:
    asked = AskedPrediction("velocity", has_zero_terminal_snr=False)
    assert text([EPS, ZERO], asked) == (
        "The model predicts the velocity (v-prediction): as --prediction says; "
        "its schedule is the usual one: as --no-zero-terminal-snr says. "
        "Its files state otherwise: the noise (epsilon) (prediction_type epsilon)."
    )
    assert "(the files agree: the tensor v_pred)" in text([V], AskedPrediction("velocity"))


@pytest.mark.parametrize(
    ("signs", "asked", "message", "way_out"),
    [
        ([V, EPS], NOTHING, "disagree about what it predicts: the noise (epsilon) (stated by prediction_type epsilon) and the "
         "velocity (v-prediction) (stated by the tensor v_pred)", "--prediction velocity"),
        ([ZERO], NOTHING, "zero terminal SNR (stated by the tensor ztsnr), but nothing states that it predicts the velocity",
         "--no-zero-terminal-snr"),
        ([EPS, ZERO], NOTHING, "but it predicts the noise", "--no-zero-terminal-snr"),
        ([EPS], AskedPrediction(has_zero_terminal_snr=True), "(as --zero-terminal-snr says)", "Omit --zero-terminal-snr"),
        ([V, ZERO], AskedPrediction("epsilon"), "but it predicts the noise", "--no-zero-terminal-snr"),
        ([PredictionSign("the tensor edm_mean", other="edm_mean")], AskedPrediction("epsilon"),
         "predicts neither the noise nor the velocity (stated by the tensor edm_mean)", "can be used"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(signs: list[PredictionSign], asked: AskedPrediction, message: str, way_out: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        choose_prediction(signs, asked)
    assert message in caught.value.problems[0]
    assert way_out in (caught.value.hint or "")
