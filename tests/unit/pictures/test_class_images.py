"""A set of class images that two commands want at once is made by one of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from dreambooth.data.prior_sets import PriorRequest, PriorSet
from dreambooth.data.settings import PriorSettings
from dreambooth.data.size import Size
from dreambooth.display_silent import SilentDisplay
from dreambooth.pages.images import save_picture
from dreambooth.pictures import class_images
from dreambooth.runs.lock import in_turn
from dreambooth.runtime.processes import OneProcess


class Other(SilentDisplay):
    """Another command that fills the set while this one waits for it."""

    def __init__(self, held: ExitStack, prior_set: PriorSet) -> None:
        self.held, self.prior_set, self.heard = held, prior_set, list[str]()

    def say(self, text: str) -> None:
        self.heard.append(text)
        for index in range(2):
            save_picture(self.prior_set.path(index), torch.zeros(3, 64, 64), {})
        self.held.close()


def test_images_that_another_command_made_meanwhile_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = list[list[int]]()
    monkeypatch.setattr(class_images, "_fill", lambda prior_set, missing, *_, **__: filled.append(list(missing)))
    prior, size, components = PriorSettings(prior_sampling_steps=2), Size.square(64), cast(Any, None)
    options = class_images._options(prior, size, 1)
    request: PriorRequest = class_images._request("a dog", options, "digest")
    prior_set = PriorSet.open(tmp_path, "dog", request)
    with ExitStack() as held:
        held.enter_context(in_turn(prior_set.folder, waiting=lambda: None))
        other = Other(held, prior_set)
        made = class_images.make_prior_set(
            components,
            model_digest="digest",
            class_word="dog",
            prompt="a dog",
            num=3,
            prior=prior,
            size=size,
            seed=1,
            folder=tmp_path,
            display=other,
            processes=OneProcess(),
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
    assert made.folder == prior_set.folder
    assert other.heard == [f"Waiting: another process is generating class images in {prior_set.folder}"]
    assert filled == [[2]], "0 and 1 came from the other command"
