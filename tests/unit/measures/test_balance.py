"""The balance of a step's scores against cases worked out by hand, and which step is best and when the peak has passed."""

from __future__ import annotations

import itertools

import pytest

from dreambooth.measures.balance import PARTS, Balance, Span, Weights, balance, best, has_passed_peak, smoothed, spans

BASE = {"DINO": 0.2, "CLIP-I": 0.6, "CLIP-T": 0.30, "PRES": 0.2, "DIV": 0.5}
PHOTOS = {"DINO": 0.7, "CLIP-I": 0.8, "CLIP-T": 0.20}
WEIGHTS = Weights(fidelity=2, prompt=1, prior=1)


def parts(found: Balance | None) -> list[float | None]:
    assert found is not None
    return [found.value, found.fidelity, found.prompt, found.prior]


def test_the_balance_of_a_step_worked_out_by_hand() -> None:
    scores = {"DINO": 0.6, "CLIP-I": 0.65, "CLIP-T": 0.28, "PRES": 0.3, "drift": 0.2, "DIV": 0.3}
    fidelity = (0.4 / 0.5 + 0.05 / 0.2) / 2
    prompt = 0.08 / 0.10
    prior = (0.4 / 0.5 + (0.8 - 0.2) / 0.8 + 0.3 / 0.5) / 3
    expected = [(2 * fidelity + prompt + prior) / 4, fidelity, prompt, prior]
    assert parts(balance(scores, spans(BASE, PHOTOS), WEIGHTS)) == pytest.approx(expected)


def test_what_learned_nothing_and_what_copies_the_photos_are_worth_the_same() -> None:
    between = spans(BASE, PHOTOS)
    copier = {"DINO": 0.7, "CLIP-I": 0.8, "CLIP-T": 0.2, "PRES": 0.7, "drift": 0.8, "DIV": 0.0}
    assert parts(balance({**BASE, "drift": 0.0}, between, WEIGHTS)) == pytest.approx([0.5, 0, 1, 1])
    assert parts(balance(copier, between, WEIGHTS)) == pytest.approx([0.5, 1, 0, 0])


def test_no_measure_counts_beyond_its_ends() -> None:
    between = spans(BASE, PHOTOS)
    past = {"DINO": 0.99, "CLIP-I": 0.99, "CLIP-T": 0.1, "PRES": 0.9, "drift": 1.5, "DIV": 0.0}
    assert parts(balance(past, between, WEIGHTS)) == pytest.approx([0.5, 1, 0, 0])
    better_than_base = {"DINO": 0.1, "CLIP-I": 0.1, "CLIP-T": 0.5, "PRES": 0.0, "drift": 0.0, "DIV": 0.9}
    assert parts(balance(better_than_base, between, WEIGHTS)) == pytest.approx([0.5, 0, 1, 1])


def test_weights_are_those_that_were_asked_for() -> None:
    scores = {"DINO": 0.7, "CLIP-I": 0.8, "CLIP-T": 0.25, "PRES": 0.7, "drift": 0.8, "DIV": 0.0}  # 1, 1/2, 0
    found = balance(scores, spans(BASE, PHOTOS), Weights(fidelity=1, prompt=4, prior=0))
    assert parts(found)[0] == pytest.approx((1 + 4 * 0.5) / 5)


def test_what_was_not_measured_is_left_out_with_its_weight() -> None:
    scores = {"DINO": 0.45, "CLIP-T": 0.25}
    found = balance(scores, spans({"DINO": 0.2, "CLIP-T": 0.30}, PHOTOS), WEIGHTS)
    assert found == Balance(pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5), None)
    assert balance({}, spans(BASE, PHOTOS), WEIGHTS) is None
    assert balance({"DINO": 0.5}, spans(BASE, PHOTOS), Weights(0, 1, 1)) is None


def test_measures_that_cannot_tell_the_base_model_from_the_photos_are_left_out() -> None:
    assert spans(BASE, PHOTOS).keys() == {name for names in PARTS.values() for name in names}
    blind = spans({**BASE, "DINO": 0.69}, {**PHOTOS, "CLIP-I": 0.5})
    assert "DINO" not in blind, "nearer than the smallest span"
    assert "CLIP-I" not in blind, "the wrong way round"
    assert "CLIP-T" not in spans({**BASE, "CLIP-T": 0.21}, PHOTOS)
    assert "PRES" not in spans({**BASE, "PRES": 0.69}, PHOTOS)
    assert spans(BASE, PHOTOS)["drift"] == Span(worst=0.8, best=0.0)


def test_a_balance_is_smoothed_by_those_beside_it() -> None:
    found = smoothed({300: 0.8, 100: 0.2, 200: 0.6, 450: 0.1})
    assert found == pytest.approx({100: 0.3, 200: 0.55, 300: 0.575, 450: 0.275})
    assert smoothed({100: 0.25}) == {100: 0.25}
    assert smoothed({}) == {}


def test_the_best_step_is_the_first_of_the_highest() -> None:
    assert best({300: 0.4, 100: 0.4, 200: 0.6}) == 200
    assert best({100: 0.4, 200: 0.6}) == 200
    assert best({100: 0.6, 200: 0.4}) == 100
    assert best({300: 0.6, 100: 0.6, 200: 0.6}) == 100
    assert best({100: 0.1}) == 100


def test_one_lucky_look_is_not_the_best() -> None:
    assert best({50: 0.4, 100: 0.7, 150: 0.4, 200: 0.6, 250: 0.65, 300: 0.6}) == 250


def test_a_peak_has_passed_when_all_of_the_last_looks_are_lower_by_more_than_the_margin() -> None:
    rising = {100: 0.50, 200: 0.60, 300: 0.70}
    cases = [
        ({**rising}, False),
        ({**rising, 400: 0.60}, False),  # one look is often chance
        ({**rising, 400: 0.60, 500: 0.66}, False),  # within the margin
        ({**rising, 400: 0.60, 500: 0.64}, True),
        ({**rising, 400: 0.60, 500: 0.71}, False),
        ({**rising, 400: 0.60, 500: 0.71, 600: 0.60}, False),  # the count begins anew
        ({500: 0.64, 400: 0.60, **rising}, True),  # steps count, not the order of the record
        ({}, False),
    ]
    for history, expected in cases:
        assert has_passed_peak(history, margin=0.05, patience=2) == expected, history
    assert has_passed_peak({1: 0.7, 2: 0.6}, margin=0.05, patience=1)
    assert not has_passed_peak({1: 0.7, 2: 0.5}, margin=0.25, patience=1)


def test_the_step_at_which_training_ends_is_the_same_for_every_beginning_of_a_history() -> None:
    values = dict(zip(itertools.count(100, 100), [0.5, 0.6, 0.52, 0.58, 0.51, 0.5, 0.7, 0.4, 0.4], strict=False))
    ends = [last for last in values if has_passed_peak({s: v for s, v in values.items() if s <= last}, margin=0.05, patience=2)]
    assert ends[0] == 600
    assert ends == [600, 900]
