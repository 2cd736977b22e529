"""Which pictures a step of training sees: a pure function of the seed and the step.

`drawing` decides the order of the images; `views` decides how each one is cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreambooth.data.buckets import Buckets
from dreambooth.data.drawing import Drawing, PerRole, Share, drawing
from dreambooth.data.records import CaptionedPhoto, Photo, Role
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import View, all_training_views, draw_view
from dreambooth.diffusion.randomness import uniform, uniform_integer

__all__ = ["Example", "ExampleSource"]


@dataclass(frozen=True)
class Example:
    """One picture as one step sees it; `slot` counts the examples of its role within the step from 0."""

    role: Role
    photo: Photo
    view: View
    caption: str
    slot: int


@dataclass(frozen=True)
class ExampleSource:
    """Everything that decides which example comes when. Without class images (`priors` empty) there are only photos.

    With `repeats` photos and class images come in the original's pairs, which needs some of both; else each in rounds.
    `examples_per_step` is the number of photos in one step, and of class images on top; how they are cut into forward passes
    is no concern of the order.
    """

    instances: tuple[CaptionedPhoto, ...]
    priors: tuple[CaptionedPhoto, ...]
    views: ViewSettings
    size: Size | Buckets
    examples_per_step: int
    seed: int
    repeats: PerRole | None = None
    caption_dropout: float = 0.0
    """Probability that a photo is shown with the empty caption."""
    shares: tuple[Share, ...] = ()
    """Of the subjects, in the order of `instances`; empty: all photos are shown equally often."""

    def examples_at(self, step: int) -> tuple[Example, ...]:
        """The examples of a step (the first step is 1): photos in slots 0, 1, ..., then as many class images."""
        assert step >= 1, step
        return (*self._of_role("instance", step), *self._of_role("prior", step))

    def captions(self) -> tuple[str, ...]:
        """Every distinct caption, in the order of the pictures; the empty one is the last."""
        said = [caption for one in (*self.instances, *self.priors) for caption in one.captions]
        return tuple(dict.fromkeys([*said, *([""] if self.caption_dropout else [])]))

    def views_used(self, steps: int) -> tuple[tuple[Photo, View], ...]:
        """Every distinct picture and view that steps 1 to `steps` see, in the order of first use.

        What a short run over many pictures and crops never reaches is not among them and need not be encoded.
        """
        roles: tuple[Role, ...] = ("instance", "prior")
        possible = {
            _key(one.photo, view)
            for role in roles
            for one in self._pictures(role)[: self._drawing.num_reached(role)]
            for view in all_training_views(one.photo, self.views, self.size_of(one.photo), self.seed, role)
        }
        used: dict[tuple[str, str, View], tuple[Photo, View]] = {}
        for step in range(1, steps + 1):
            for example in self.examples_at(step):
                used.setdefault(_key(example.photo, example.view), (example.photo, example.view))
            if len(used) == len(possible):
                break
        return tuple(used.values())

    def size_of(self, photo: Photo) -> Size:
        """The size of a picture's views."""
        return self.size if isinstance(self.size, Size) else self.size.of(photo)

    def exposures(self, role: Role, steps: int) -> tuple[int, ...]:
        """How often steps 1 to `steps` show each picture of a role, in the order of `instances` or `priors`."""
        if not self._pictures(role):
            return ()
        return self._drawing.exposures(role, steps * self.examples_per_step)

    @property
    def _drawing(self) -> Drawing:
        assert self.repeats is None or self.priors, "pairs need class images"
        return drawing(PerRole(len(self.instances), len(self.priors)), self.repeats, seed=self.seed, shares=self.shares)

    def _pictures(self, role: Role) -> Sequence[CaptionedPhoto]:
        return self.instances if role == "instance" else self.priors

    def _of_role(self, role: Role, step: int) -> list[Example]:
        pictures, order = self._pictures(role), self._drawing
        examples: list[Example] = []
        for slot in range(self.examples_per_step if pictures else 0):
            picture = pictures[order.index(role, (step - 1) * self.examples_per_step + slot)]
            view = draw_view(picture.photo, self.views, self.size_of(picture.photo), self.seed, role, step, slot)
            examples.append(Example(role, picture.photo, view, self._caption(picture, role, step, slot), slot))
        return examples

    def _caption(self, picture: CaptionedPhoto, role: Role, step: int, slot: int) -> str:
        """One of a picture's captions, all equally likely."""
        if role == "instance" and self.caption_dropout > uniform(self.seed, "caption dropout", step, slot):
            return ""
        captions = picture.captions
        return (
            captions[uniform_integer(len(captions), self.seed, "caption", role, step, slot)]
            if len(captions) > 1
            else captions[0]
        )


def _key(photo: Photo, view: View) -> tuple[str, str, View]:
    """What tells views apart: two copies of one photo may have different masks."""
    return photo.digest, "" if photo.mask is None else photo.mask.digest, view
