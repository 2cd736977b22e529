from __future__ import annotations

import numpy as np
import pytest

from dreambooth.toybox.places import SETTINGS, _noise
from dreambooth.toybox.shapes import Floats, floats


def spots(num: int = 3000) -> tuple[Floats, Floats, Floats, Floats]:
    """The x and z of the ground, heading and slope in the sky."""
    low, high = (-6, -12, -0.4, 0), (6, 2, 0.4, 0.4)
    drawn = floats(np.random.default_rng(0).uniform(low, high, (num, 4)))
    return drawn[:, 0], drawn[:, 1], drawn[:, 2], drawn[:, 3]


@pytest.mark.parametrize("place", SETTINGS)
def test_grounds_and_skies_are_colours_in_float32(place: str) -> None:
    setting, (x, z, heading, slope) = SETTINGS[place], spots()
    for colours in (setting.ground(x, z, 5), setting.sky(heading, slope, 5)):
        assert colours.shape == (3000, 3) and colours.dtype == np.float32
        assert colours.min() >= 0 and colours.max() <= 1


@pytest.mark.parametrize("place", SETTINGS)
def test_a_spot_has_its_colour_whatever_else_is_looked_at(place: str) -> None:
    setting, (x, z, heading, slope) = SETTINGS[place], spots()
    part = slice(100, 110)
    np.testing.assert_array_equal(setting.ground(x, z, 5)[part], setting.ground(x[part], z[part], 5))
    np.testing.assert_array_equal(setting.sky(heading, slope, 5)[part], setting.sky(heading[part], slope[part], 5))


@pytest.mark.parametrize("place", SETTINGS)
def test_the_texture_moves_with_its_seed(place: str) -> None:
    setting, (x, z, heading, slope) = SETTINGS[place], spots()
    assert np.abs(setting.ground(x, z, 5) - setting.ground(x, z, 6)).mean() > 0.003
    assert np.abs(setting.sky(heading, slope, 5) - setting.sky(heading, slope, 6)).mean() > 0.003


def test_places_can_be_told_apart_by_their_ground() -> None:
    """That is the ground around the object: farther away there may be sea, or grass beside the road."""
    x, z, *_ = spots()
    near = (np.abs(x) < 1.5) & (np.abs(z) < 1.5)
    means = np.stack([setting.ground(x[near], z[near], 5).mean(axis=0) for setting in SETTINGS.values()])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2) + np.eye(len(means))
    assert apart.min() > 0.06


def test_light_is_warmer_in_the_desert_and_dimmer_at_night() -> None:
    assert SETTINGS["desert"].light[0] > 1.3 * SETTINGS["desert"].light[2]
    assert sum(SETTINGS["city"].light) < 0.7 * sum(SETTINGS["grass"].light)
    for setting in SETTINGS.values():
        assert min(setting.ambient) > 0.15  # no side of an object is black


def test_noise_is_smooth_in_range_and_repeats() -> None:
    x = np.linspace(-300, 300, 20_001, dtype=np.float32)
    y = np.full_like(x, 0.25)
    noise = _noise(x, y, 0)
    assert noise.min() >= 0 and noise.max() <= 1 and noise.std() > 0.15
    assert np.abs(np.diff(noise)).max() < 1.1 * 0.03  # the values of two neighbours differ by 1 at most, over one unit
    again = _noise(x[:1000] + np.float32(128), y[:1000], 0)
    np.testing.assert_allclose(again, noise[:1000], atol=1e-4)
    column = np.arange(100, dtype=np.float32)
    whole = _noise(column, column * 0, 0)  # at whole numbers it is the tile itself
    expected = np.random.default_rng(7).random((128, 128), dtype=np.float32)[0, :100]
    np.testing.assert_array_equal(whole, expected)
