from __future__ import annotations

from typing import Any

import pytest

from dreambooth.families.prediction_signs import consistent_metadata, prediction_markers, prediction_signs


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
    (sign,) = prediction_signs(**stated)
    assert (sign.prediction, sign.where) == ("velocity", where)


@pytest.mark.parametrize(
    ("stated", "where"),
    [
        ({"names": ["ztsnr"]}, "the tensor ztsnr"),
        ({"metadata": {"ss_zero_terminal_snr": "True"}}, "ss_zero_terminal_snr True"),
        ({"scheduler": {"rescale_betas_zero_snr": True}}, "rescale_betas_zero_snr True"),
    ],
)
def test_zero_terminal_snr_is_recognized(stated: dict[str, Any], where: str) -> None:
    (sign,) = prediction_signs(**stated)
    assert (sign.has_zero_terminal_snr, sign.prediction, sign.where) == (True, None, where)


def test_predictions_without_a_name_here_are_not_passed_over() -> None:
    signs = prediction_signs(names=["edm_vpred.sigma_max"], scheduler={"prediction_type": "sample"})
    assert [sign.other for sign in signs] == ["edm_vpred.sigma_max", "sample"]


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
    assert all(sign.prediction == "epsilon" for sign in prediction_signs(**stated))


def test_markers_are_the_signs_that_they_are_read_as() -> None:
    assert prediction_markers("epsilon", has_zero_terminal_snr=False) == {}
    markers = prediction_markers("velocity", has_zero_terminal_snr=True)
    assert {name: tuple(tensor.shape) for name, tensor in markers.items()} == {"v_pred": (0,), "ztsnr": (0,)}
    velocity, zero = prediction_signs(names=markers)
    assert velocity.prediction == "velocity"
    assert zero.has_zero_terminal_snr


def test_metadata_loses_what_contradicts_the_model_and_nothing_else() -> None:
    metadata = {"modelspec.prediction_type": "epsilon", "ss_zero_terminal_snr": "True", "modelspec.title": "rex"}
    assert consistent_metadata(metadata, "velocity", has_zero_terminal_snr=False) == {"modelspec.title": "rex"}
    kept = consistent_metadata(metadata, "epsilon", has_zero_terminal_snr=True)
    assert kept == metadata
    unknown = {"modelspec.prediction_type": "unknown", "ss_v_parameterization": "None"}
    assert consistent_metadata(unknown, "velocity", has_zero_terminal_snr=False) == {"ss_v_parameterization": "None"}
