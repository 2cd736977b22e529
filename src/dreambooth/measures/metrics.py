"""The measures of subject, prompt and prior, as functions of features and distances that were computed before.

DINO, CLIP-I, CLIP-T, PRES and DIV are those of DreamBooth (Ruiz et al., arXiv 2208.12242, section 4); which of the first two
a number is depends only on the encoder that the features are from. Means are taken in float64. A feature row of zeros has no
direction, and every number it enters is not a number.

Shapes: N generated pictures, M photos, D widths of features, P prompts, S seeds, K subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Copying",
    "confusion_matrix",
    "copying",
    "cosines",
    "div",
    "div_parts",
    "drift",
    "drifts",
    "mean_pairwise_cosine",
    "own_cosine",
    "pres",
    "prompt_cosines",
    "subject_cosines",
]

_SAME = 0.1
"""Photos count as one when they are nearer to each other than this part of the median distance."""

_ROUNDING = 1e-6
"""What a distance of a picture from itself may come to, of numbers that are of the order of 1."""


def cosines(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Cosine of every row of `a` with every row of `b`, (N, M) float64 in [-1, 1]."""
    return _unit(a_ND) @ _unit(b_MD).T


def subject_cosines(generated_ND: Tensor, photos_MD: Tensor) -> Tensor:
    """Mean cosine of each generated image with all photos, (N,) float64; DINO, CLIP-I and PRES are the means of these."""
    return cosines(generated_ND, photos_MD).mean(dim=1)


def mean_pairwise_cosine(generated_ND: Tensor, photos_MD: Tensor) -> float:
    """DINO or CLIP-I: `1 / (N M) sum_ij cos(g_i, r_j)` over generated pictures g and photos r of the subject. Higher is better.

    The pairs are of a picture and a photo, so nothing is compared with itself; for photos with each other see `own_cosine`.
    """
    return float(subject_cosines(generated_ND, photos_MD).mean())


def own_cosine(photos_MD: Tensor) -> float:
    """The photos' own similarity, `1 / (M (M - 1)) sum_{i != j} cos(r_i, r_j)`: what a perfect imitation would reach.

    A score above it is no better one: it says that the generated pictures are copies. There must be two photos or more.
    """
    num = len(photos_MD)
    assert num >= 2, "a single photo has no other one to be like"
    among = cosines(photos_MD, photos_MD)
    return float((among.sum() - among.diagonal().sum()) / (num * (num - 1)))


def prompt_cosines(image_ND: Tensor, text_ND: Tensor) -> Tensor:
    """Cosine of each picture with the prompt it was generated from, row by row, (N,) float64; their mean is CLIP-T.

    The plain cosine: not multiplied by 2.5 or by 100, and not cut off at 0, as other scores made from CLIP are.
    """
    assert image_ND.shape == text_ND.shape, "one text for each picture"
    return (_unit(image_ND) * _unit(text_ND)).sum(dim=1)


def pres(class_images_ND: Tensor, photos_MD: Tensor) -> float:
    """PRES: the mean pairwise cosine of generated *class* images ("a dog") with the photos of the subject. LOWER is better.

    The formula is that of DINO; the pictures are others. A class that has become the subject scores as the subject does.
    """
    return mean_pairwise_cosine(class_images_ND, photos_MD)


def div(distances_PSS: Tensor) -> float:
    """DIV: the mean distance between two pictures of one prompt, over all pairs and prompts. Higher is better.

    `distances_PSS[p, s, t]` is the perceptual distance (LPIPS in the paper) of the pictures with seeds s and t of prompt p; it
    must be symmetric, and its diagonal is left out. There must be two seeds or more.
    """
    return float(_distance_to_others(distances_PSS).mean())


def div_parts(distances_PSS: Tensor) -> Tensor:
    """DIV as one number for each picture, (P, S) float64, for an interval over prompts and seeds; their mean is DIV.

    A picture's number is its prompt's mean and, around that, twice the deviation of its mean distance to the others: a mean
    over pairs counts every picture twice (Hoeffding's projection of a U-statistic), so without the 2 the interval would be
    too narrow.
    """
    each_PS = _distance_to_others(distances_PSS)
    middle_P1 = each_PS.mean(dim=1, keepdim=True)
    return middle_P1 + 2 * (each_PS - middle_P1)


def drifts(before_ND: Tensor, after_ND: Tensor) -> Tensor:
    """How far each class image moved: 1 - cosine of what the base and the trained model made from one seed, (N,) float64."""
    return 1 - prompt_cosines(before_ND, after_ND)


def drift(before_ND: Tensor, after_ND: Tensor) -> float:
    """The mean of `drifts`, in [0, 2]: 0 when the class images are the base model's own. Lower is better."""
    return float(drifts(before_ND, after_ND).mean())


@dataclass(frozen=True)
class Copying:
    """Distances of generated images to single photos, compared with the distances between the photos."""

    nearest_N: Tensor
    """Distance of each generated image to its nearest photo, float64."""
    spread: float
    """Distance between the two most similar photos, without duplicates."""
    share: float
    """Share of copies: generated images closer to a photo than half of `spread`."""

    @property
    def is_alarming(self) -> bool:
        """Whether more than half of the images are copies."""
        return self.share > 0.5


def copying(distances_NM: Tensor, among_MM: Tensor) -> Copying | None:
    """The alarm for over-fitting: picture i is a copy when `min_j d(g_i, r_j) < 1/2 min_{j != k} d(r_j, r_k)`.

    `distances_NM` are those of generated pictures from photos, `among_MM` those of the photos from each other, by the same
    measure: 1 - cosine of features, or a perceptual distance. The photos' own spread is the yardstick, so no number here
    depends on the encoder's scale. An encoder that was trained to see through the view cannot tell a copy from a good new
    picture of the subject; take one that can, a perceptual distance or DINO.

    Both halves are measured. Of 24 subjects of the small world with five photos each (judge's distance), new photos of the
    subject were copies in 25 % of cases and never gave the alarm; the photos themselves, softened, or shifted by two pixels
    under noise, or rendered again from six degrees beside, were in 91 to 100 %, and gave it for every subject. At the whole
    spread new photos would have been copies in 97 %, at a third of it the shifted photos in 12 %.

    Photos that are nearer to each other than a tenth of the median distance between photos count as one: a repeated photo
    would leave no spread and silence the alarm. The same subjects, and those that ship, had no two photos nearer than 0.8 of
    that median (judge's distance; 0.2 by the eye), while one that was saved again as JPEG of quality 95 was at 0.07 at most.

    None where there are not two photos that differ: nothing says then what is near.
    """
    spread = _spread(among_MM)
    if spread is None:
        return None
    nearest_N = distances_NM.double().amin(dim=1)
    share = float((nearest_N < spread / 2).double().mean())
    return Copying(nearest_N, spread, share)


def _spread(among_MM: Tensor) -> float | None:
    """The least distance between two photos that differ; None where all are one photo."""
    num = len(among_MM)
    each = among_MM.double()[tuple(torch.triu_indices(num, num, offset=1))]
    different = each[each > _ROUNDING]  # a median with the repetitions in it would be 0 where these are most pairs
    if not len(different):
        return None
    return float(different[different > _SAME * different.median()].min())


def confusion_matrix(generated: Sequence[Tensor], photos: Sequence[Tensor]) -> Tensor:
    """With several subjects: in row i and column j the share of pictures of subject i that are most like subject j, (K, K).

    `generated[i]` is (N_i, D), `photos[j]` is (M_j, D); "most like" is the highest mean cosine with a subject's photos, and the
    first of equals. Rows sum to 1, float64. Perfect is the identity; a column above 1 is a subject that leaks into others.
    """
    assert len(generated) == len(photos), "one set of photos for each subject"
    rows = []
    for pictures_ND in generated:
        likeness_NK = torch.stack([subject_cosines(pictures_ND, photos_MD) for photos_MD in photos], dim=1)
        found_N = likeness_NK.argmax(dim=1)
        rows.append(torch.bincount(found_N, minlength=len(photos)).double() / len(found_N))
    return torch.stack(rows)


def _unit(features_ND: Tensor) -> Tensor:
    return F.normalize(features_ND.double(), dim=1, eps=0.0)


def _distance_to_others(distances_PSS: Tensor) -> Tensor:
    num = distances_PSS.shape[-1]
    assert num >= 2, "a single picture of a prompt has nothing to differ from"
    distances_PSS = distances_PSS.double()
    return (distances_PSS.sum(dim=2) - distances_PSS.diagonal(dim1=1, dim2=2)) / (num - 1)
