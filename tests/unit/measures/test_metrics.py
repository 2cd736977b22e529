"""Every measure against plain loops over numbers, and what must not change it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.randomness import normal
from dreambooth.measures.metrics import (
    Copying,
    confusion_matrix,
    copying,
    cosines,
    div,
    div_parts,
    drift,
    drifts,
    mean_pairwise_cosine,
    own_cosine,
    pres,
    prompt_cosines,
    subject_cosines,
)


def clip_t(images: Tensor, texts: Tensor) -> float:
    return float(prompt_cosines(images, texts).mean())


def features(num: int, name: str) -> Tensor:
    return normal((num, 6), 0, "test features", name) + 0.5


def distances(num_prompts: int, num_seeds: int) -> Tensor:
    half = normal((num_prompts, num_seeds, num_seeds), 0, "test distances").abs()
    return half + half.transpose(1, 2)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    inner = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return inner / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def copied(distances: Tensor, among: Tensor) -> Copying:
    found = copying(distances, among)
    assert found is not None
    return found


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


def test_the_mean_pairwise_cosine_is_over_every_picture_and_photo() -> None:
    generated, photos = features(5, "generated"), features(3, "photos")
    expected = mean([cosine(g, r) for g in generated.tolist() for r in photos.tolist()])
    assert mean_pairwise_cosine(generated, photos) == close(expected)
    each = [mean([cosine(g, r) for r in photos.tolist()]) for g in generated.tolist()]
    assert subject_cosines(generated, photos).tolist() == [close(value) for value in each]


def test_the_photos_own_cosine_leaves_out_each_photo_with_itself() -> None:
    photos = features(4, "photos").tolist()
    expected = mean([cosine(a, b) for i, a in enumerate(photos) for j, b in enumerate(photos) if i != j])
    assert own_cosine(features(4, "photos")) == close(expected)


def test_clip_t_compares_each_picture_with_its_own_prompt() -> None:
    images, texts = features(5, "images"), features(5, "texts")
    pairs = [cosine(image, text) for image, text in zip(images.tolist(), texts.tolist(), strict=True)]
    assert clip_t(images, texts) == close(mean(pairs))
    assert prompt_cosines(images, texts).tolist() == [close(pair) for pair in pairs]
    assert clip_t(images, -images) == close(-1.0), "not cut off at 0"


def test_pres_is_the_same_formula_on_class_images() -> None:
    class_images, photos = features(6, "class"), features(3, "photos")
    assert pres(class_images, photos) == close(mean([cosine(c, r) for c in class_images.tolist() for r in photos.tolist()]))


def test_div_is_the_mean_over_the_pairs_of_each_prompt() -> None:
    matrices = distances(3, 4)
    pairs = [[matrix[s][t] for s in range(4) for t in range(s)] for matrix in matrices.tolist()]
    assert div(matrices) == close(mean([mean(of_prompt) for of_prompt in pairs]))
    with_diagonal = matrices + 9 * torch.eye(4)
    assert div(with_diagonal) == close(div(matrices)), "a picture is not compared with itself"


def test_the_parts_of_div_have_its_mean_and_twice_the_deviations_of_a_pictures_mean_distance() -> None:
    matrices = distances(3, 4)
    parts = div_parts(matrices)
    assert parts.shape == (3, 4)
    assert float(parts.mean()) == close(div(matrices))
    for prompt, matrix in enumerate(matrices.tolist()):
        each = [mean([matrix[s][t] for t in range(4) if t != s]) for s in range(4)]
        assert parts[prompt].tolist() == [close(2 * value - mean(each)) for value in each]


def test_the_spread_of_the_parts_is_that_of_div_itself() -> None:
    """Pictures are points on a line and the distance is |a - b|: many redrawn sets show how much DIV varies."""
    points = normal((4000, 12), 0, "test points").double()
    matrices = (points.unsqueeze(2) - points.unsqueeze(1)).abs()
    of_each_set = torch.tensor([div(matrix.unsqueeze(0)) for matrix in matrices[:2000]])
    claimed = (div_parts(matrices).var(dim=1) / 12).mean()
    assert float(claimed / of_each_set.var()) == pytest.approx(1, abs=0.25)


def test_drift_is_one_minus_the_cosine_of_pairs_of_one_seed() -> None:
    before, after = features(5, "before"), features(5, "after")
    expected = [1 - cosine(b, a) for b, a in zip(before.tolist(), after.tolist(), strict=True)]
    assert drifts(before, after).tolist() == [close(value) for value in expected]
    assert drift(before, after) == close(mean(expected))
    assert drift(before, before) == close(0.0)
    assert drift(before, after.flip(0)) != pytest.approx(drift(before, after)), "seeds are paired"


def test_a_copy_is_nearer_than_half_the_spread_of_the_photos() -> None:
    among = torch.tensor([[0.0, 4.0, 6.0], [4.0, 0.0, 5.0], [6.0, 5.0, 0.0]])
    far = torch.tensor([[9.0, 1.9, 9.0], [2.1, 9.0, 9.0], [9.0, 9.0, 7.0], [9.0, 9.0, 0.0]])
    found = copied(far, among)
    assert found.spread == 4.0
    assert found.nearest_N.tolist() == pytest.approx([1.9, 2.1, 7.0, 0.0], rel=1e-6)
    assert found.share == 0.5 and not found.is_alarming
    assert copied(far[[0, 1, 3]], among).is_alarming, "two of three are copies"
    scaled = copied(7 * far, 7 * among)
    assert scaled.share == found.share, "the measure's scale does not matter"


def test_copying_by_cosines_finds_the_photos_themselves() -> None:
    photos = features(4, "photos")
    found = copied(1 - cosines(photos * 3, photos), 1 - cosines(photos, photos))
    assert found.share == 1.0 and found.is_alarming
    nearest = min(1 - cosine(a, b) for i, a in enumerate(photos.tolist()) for b in photos.tolist()[:i])
    assert found.spread == close(nearest)


@pytest.mark.parametrize(("repeats", "apart"), [(1, 0.0), (2, 0.0), (7, 0.0), (1, 0.3)])
def test_a_repeated_photo_leaves_the_alarm_as_it_was(repeats: int, apart: float) -> None:
    """With seven repetitions most pairs of photos are of one with itself; 0.3 is a photo that was saved again."""
    among = torch.tensor([[0.0, 4.0, 6.0], [4.0, 0.0, 5.0], [6.0, 5.0, 0.0]])
    far = torch.tensor([[9.0, 1.9, 9.0], [2.1, 9.0, 9.0], [9.0, 9.0, 0.0]])
    which = [0, 1, 2, *[2] * repeats]
    repeated = among[which][:, which]
    repeated[2, 3:] = repeated[3:, 2] = apart
    found, before = copied(far[:, which], repeated), copied(far, among)
    assert (found.spread, found.share) == (before.spread, before.share) == (4.0, pytest.approx(2 / 3))


def test_photos_that_are_one_photo_have_no_spread_to_measure_by() -> None:
    photo = features(1, "photos")
    same = 1 - cosines(photo.expand(3, 6), photo.expand(3, 6))
    assert copying(same, same + 1e-15) is None
    assert copying(same[:, :1], same[:1, :1]) is None, "a single photo"
    assert copying(same[:, :2], torch.tensor([[0.0, 2.0], [2.0, 0.0]])) is not None


def test_the_confusion_matrix_counts_whom_each_picture_is_most_like() -> None:
    photos = [features(3, f"photos {subject}") for subject in range(3)]
    generated = [features(num, f"generated {num}") for num in (4, 5, 7)]
    expected = []
    for pictures in generated:
        counts = [0, 0, 0]
        for picture in pictures.tolist():
            likeness = [mean([cosine(picture, photo) for photo in of_subject.tolist()]) for of_subject in photos]
            counts[likeness.index(max(likeness))] += 1
        expected.append([count / len(pictures) for count in counts])
    found = confusion_matrix(generated, photos)
    assert found.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1, "a test in which all rows are alike shows nothing"
    assert found.sum(dim=1).tolist() == [close(1.0)] * 3


def test_photos_of_the_subjects_themselves_are_not_confused() -> None:
    middles = 9 * torch.eye(6)[:3]
    sets = [middle + 0.1 * features(4, str(subject)) for subject, middle in enumerate(middles)]
    assert torch.equal(confusion_matrix(sets, sets), torch.eye(3, dtype=torch.float64))


def test_neither_order_nor_length_of_features_matters() -> None:
    a, b = features(5, "a"), features(5, "b")
    scale = torch.rand(5, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    order = torch.tensor([3, 0, 4, 1, 2])
    for measure in (mean_pairwise_cosine, clip_t, pres, drift):
        assert measure(a[order] * scale, b[order]) == pytest.approx(measure(a, b), abs=1e-6)
    assert own_cosine(a[order] * scale) == pytest.approx(own_cosine(a), abs=1e-6)
    assert mean_pairwise_cosine(a, b[order]) == close(mean_pairwise_cosine(a, b))


def test_means_are_taken_in_float64() -> None:
    many = features(1, "one").half().expand(70_000, 6)
    assert mean_pairwise_cosine(many, many[:2]) == close(1.0)
    assert cosines(many[:1], many[:1]).dtype == torch.float64


def test_features_without_a_direction_show_in_the_result() -> None:
    assert math.isnan(mean_pairwise_cosine(torch.zeros(1, 6), features(2, "photos")))
