"""Changes of a weight: each formula against its definition, written out with the sums that the papers give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import Change, Difference, Hadamard, Kronecker, LowRank, Whole


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64).float()


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.float(), rtol=2e-6, atol=2e-6)


def test_a_linear_layer_gets_the_scaled_product() -> None:
    down, up = _drawn(3, 5), _drawn(7, 3)
    _close(LowRank(down, up, alpha=6.0).of_shape(torch.Size([7, 5])), 2 * up @ down)


def test_a_convolution_gets_the_kernel_that_both_convolutions_make_together() -> None:
    down, up, picture = _drawn(3, 5, 3, 3), _drawn(7, 3, 1, 1), _drawn(1, 5, 8, 8)
    kernel = LowRank(down, up, alpha=3.0).of_shape(torch.Size([7, 5, 3, 3]))
    two = torch.nn.functional.conv2d(torch.nn.functional.conv2d(picture, down, padding=1), up)
    torch.testing.assert_close(torch.nn.functional.conv2d(picture, kernel, padding=1), two, rtol=1e-5, atol=1e-5)


def test_a_tucker_kernel_stands_between_two_convolutions_of_one_pixel() -> None:
    down, middle, up, picture = _drawn(2, 5, 1, 1), _drawn(2, 2, 3, 3), _drawn(7, 2, 1, 1), _drawn(1, 5, 8, 8)
    kernel = LowRank(down, up, alpha=2.0, middle=middle).of_shape(torch.Size([7, 5, 3, 3]))
    convolve = torch.nn.functional.conv2d
    three = convolve(convolve(convolve(picture, down), middle, padding=1), up)
    torch.testing.assert_close(convolve(picture, kernel, padding=1), three, rtol=1e-5, atol=1e-5)


def test_linear_layers_and_convolutions_of_one_pixel_are_the_same_matrix() -> None:
    down, up = _drawn(2, 5), _drawn(7, 2)
    assert LowRank(down, up, 2.0).of_shape(torch.Size([7, 5, 1, 1])).shape == (7, 5, 1, 1)
    assert LowRank(down[..., None, None], up[..., None, None], 2.0).of_shape(torch.Size([7, 5])).shape == (7, 5)


@pytest.mark.parametrize("shape", [(5, 7), (7, 6), (7, 5, 3, 3), (35,), (7, 5, 5, 1)])
def test_another_layer_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        LowRank(_drawn(2, 5), _drawn(7, 2), 2.0).of_shape(torch.Size(shape))


def test_a_hadamard_product_multiplies_two_products_elementwise() -> None:
    first, second = (_drawn(7, 2), _drawn(2, 5, seed=1)), (_drawn(7, 2, seed=2), _drawn(2, 5, seed=3))
    expected = 0.5 * (first[0] @ first[1]) * (second[0] @ second[1])
    _close(Hadamard(first, second, alpha=1.0).of_shape(torch.Size([7, 5])), expected)


def test_a_hadamard_product_with_kernels_sums_over_both_ranks() -> None:
    pairs = [(_drawn(2, 7, seed=seed), _drawn(2, 5, seed=seed + 1)) for seed in (0, 2)]
    kernels = (_drawn(2, 2, 3, 3), _drawn(2, 2, 3, 3, seed=1))
    expected = torch.ones(7, 5, 3, 3)
    for (rows, columns), kernel in zip(pairs, kernels, strict=True):
        product = torch.zeros(7, 5, 3, 3)
        for i in range(2):
            for j in range(2):
                product += rows[i][:, None, None, None] * columns[j][None, :, None, None] * kernel[i, j]
        expected = expected * product
    _close(Hadamard(pairs[0], pairs[1], alpha=2.0, kernels=kernels).of_shape(torch.Size([7, 5, 3, 3])), expected)


def test_a_kronecker_product_of_two_matrices_ignores_alpha() -> None:
    first, second = _drawn(2, 3), _drawn(4, 5)
    expected = torch.cat([torch.cat([entry * second for entry in row], dim=1) for row in first])
    _close(Kronecker(first, second, alpha=9.0).of_shape(torch.Size([8, 15])), expected)


def test_a_kronecker_product_with_factors_is_scaled() -> None:
    first, pair = _drawn(2, 3), (_drawn(4, 2), _drawn(2, 5))
    found = Kronecker(first, pair, alpha=1.0).of_shape(torch.Size([8, 15]))
    _close(found, 0.5 * Kronecker(first, pair[0] @ pair[1], alpha=1.0).of_shape(torch.Size([8, 15])))


def test_a_kronecker_product_of_a_convolution_keeps_its_positions() -> None:
    first, second = _drawn(2, 3), _drawn(4, 5, 3, 3)
    found = Kronecker(first, second, alpha=1.0).of_shape(torch.Size([8, 15, 3, 3]))
    for row in range(3):
        for column in range(3):
            _close(found[:, :, row, column], torch.kron(first, second[:, :, row, column]))


@pytest.mark.parametrize("difference", [LowRank(_drawn(2, 5), _drawn(7, 2), 2.0), Whole(_drawn(7, 5))])
def test_strength_scales_the_difference_and_nothing_is_in_place(difference: Difference) -> None:
    weight = _drawn(7, 5, seed=9)
    before = weight.clone()
    _close(Change(difference).changed(weight, 0.25), weight + 0.25 * difference.of_shape(weight.shape))
    assert torch.equal(weight, before)
    assert torch.equal(Change(difference).changed(weight, 0.0), weight)


def test_rows_have_the_trained_norms() -> None:
    weight, difference, magnitude = _drawn(7, 5, seed=9), LowRank(_drawn(2, 5), _drawn(7, 2), 2.0), _drawn(7).abs() + 0.1
    changed = Change(difference, magnitude).changed(weight, 1.0)
    _close(changed.norm(dim=1), magnitude)
    moved = weight + difference.of_shape(weight.shape)
    _close(changed / changed.norm(dim=1, keepdim=True), moved / moved.norm(dim=1, keepdim=True))


def test_columns_have_the_trained_norms_where_the_file_says_so() -> None:
    weight, difference, magnitude = _drawn(7, 5, seed=9), Whole(_drawn(7, 5)), _drawn(1, 5).abs() + 0.1
    _close(Change(difference, magnitude).changed(weight, 1.0).norm(dim=0), magnitude[0])


def test_half_the_strength_of_set_norms_is_counted_in_two_ways() -> None:
    weight, difference, magnitude = _drawn(7, 5, seed=9), Whole(_drawn(7, 5)), _drawn(7).abs() + 0.1
    whole = Change(difference, magnitude).changed(weight, 1.0)
    _close(Change(difference, magnitude).changed(weight, 0.5), 0.5 * (weight + whole))
    inside = Change(difference, magnitude, strength_is_inside=True).changed(weight, 0.5)
    _close(inside.norm(dim=1), magnitude)
    moved = weight + 0.5 * difference.difference
    _close(inside / magnitude[:, None], moved / moved.norm(dim=1, keepdim=True))


_PAIRS = [(_drawn(7, 2, seed=seed), _drawn(2, 5, seed=seed + 1)) for seed in (0, 2)]
_TUCKER = (_drawn(2, 7, seed=4), _drawn(2, 5, seed=5))


@pytest.mark.parametrize(
    ("difference", "shape"),
    [
        (LowRank(_drawn(3, 5, 3, 3), _drawn(7, 3, 1, 1), alpha=6.0), (7, 5, 3, 3)),
        (LowRank(_drawn(2, 5, 1, 1), _drawn(7, 2, 1, 1), alpha=1.0, middle=_drawn(2, 2, 3, 3)), (7, 5, 3, 3)),
        (Hadamard(_PAIRS[0], _PAIRS[1], alpha=1.0), (7, 5)),
        (Hadamard(_TUCKER, _TUCKER, alpha=1.0, kernels=(_drawn(2, 2, 3, 3), _drawn(2, 2, 3, 3, seed=1))), (7, 5, 3, 3)),
        (Kronecker(_drawn(2, 3), (_drawn(7, 2), _drawn(2, 5)), alpha=1.0), (14, 15)),
        (Kronecker(_drawn(2, 3), _drawn(7, 5, 3, 3), alpha=1.0), (14, 15, 3, 3)),
        (Whole(_drawn(7, 5)), (7, 5)),
    ],
)
def test_the_norm_is_that_of_the_whole_difference(difference: Difference, shape: tuple[int, ...]) -> None:
    expected = float(difference.of_shape(torch.Size(shape)).square().sum())
    assert difference.squared_norm() == pytest.approx(expected, rel=1e-5)
