from __future__ import annotations

from typing import Any

import pytest

from dreambooth.families.prediction_signs import prediction_problems, prediction_signs

VELOCITY = r"predicts v_prediction (the velocity) (stated by {}); expected one that predicts epsilon (the noise)"
ZERO = "trained with zero terminal SNR (stated by {}); expected the usual noise schedule"


@pytest.mark.parametrize(
    ("stated", "where"),
    [
        ({"names": ["v_pred"]}, "the tensor v_pred"),
        ({"names": ["model.diffusion_model.v_pred"]}, "the tensor model.diffusion_model.v_pred"),
        ({"metadata": {"modelspec.prediction_type": "v"}}, "modelspec.prediction_type v"),
        ({"metadata": {"modelspec.prediction_type": "V_Prediction"}}, "modelspec.prediction_type V_Prediction"),
        ({"metadata": {"modelspec.predict_key": "v"}}, "modelspec.predict_key v"),
        ({"metadata": {"ss_v_parameterization": "True"}}, "ss_v_parameterization True"),
        ({"scheduler": {"prediction_type": "v_prediction"}}, "prediction_type v_prediction"),
        ({"original_config": {"model.params.parameterization": "v"}}, "model.params.parameterization v"),
        (
            {"original_config": {"model.params.denoiser_config.params.scaling_config.target": "sgm.x.VScaling"}},
            "model.params.denoiser_config.params.scaling_config.target sgm.x.VScaling",
        ),
    ],
)
def test_a_velocity_model_is_recognized(stated: dict[str, Any], where: str) -> None:
    signs = prediction_signs(**stated)
    (problem,) = prediction_problems(signs)
    assert VELOCITY.format(where) in problem
    assert prediction_problems(signs, supported="velocity") == []


@pytest.mark.parametrize(
    ("stated", "where"),
    [
        ({"names": ["ztsnr"]}, "the tensor ztsnr"),
        ({"metadata": {"ss_zero_terminal_snr": "True"}}, "ss_zero_terminal_snr True"),
        ({"scheduler": {"rescale_betas_zero_snr": True}}, "rescale_betas_zero_snr True"),
    ],
)
def test_zero_terminal_snr_is_recognized(stated: dict[str, Any], where: str) -> None:
    (problem,) = prediction_problems(prediction_signs(**stated))
    assert ZERO.format(where) in problem


def test_predictions_without_a_name_here_are_not_passed_over() -> None:
    (problem,) = prediction_problems(prediction_signs(names=["edm_vpred.sigma_max"], scheduler={"prediction_type": "sample"}))
    assert "predicts something else (stated by the tensor edm_vpred.sigma_max, prediction_type sample)" in problem


def test_all_signs_are_told_together() -> None:
    problems = prediction_problems(prediction_signs(names=["v_pred", "ztsnr"], metadata={"modelspec.prediction_type": "v"}))
    assert len(problems) == 2
    assert "the tensor v_pred, modelspec.prediction_type v" in problems[0]


@pytest.mark.parametrize(
    "stated",
    [
        {"names": ["model.diffusion_model.out.2.weight"]},
        {
            "metadata": {
                "modelspec.prediction_type": "epsilon",
                "ss_v_parameterization": "False",
                "ss_zero_terminal_snr": "None",
            }
        },
        {"metadata": {"modelspec.prediction_type": ""}},
        {"scheduler": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}},
        {"original_config": {"model.params.parameterization": "eps"}},
    ],
)
def test_models_of_the_noise_pass(stated: dict[str, Any]) -> None:
    signs = prediction_signs(**stated)
    assert prediction_problems(signs) == []
    assert all(sign.prediction == "epsilon" for sign in signs)
