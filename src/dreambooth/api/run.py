"""A run, opened: make pictures with it, measure it, go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreambooth.api.keywords import Listener, changes_from, display_for, given_only, settings_from, without_noise
from dreambooth.config import parse_settings, read_yaml
from dreambooth.errors import RunError
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import FINAL_MODELS
from dreambooth.schema.verbs import TrainSettings

if TYPE_CHECKING:
    from dreambooth.pages.images import PilImage
    from dreambooth.pictures.maker import BuiltModel, FinishedPicture
    from dreambooth.recipes.evaluate import EvaluateResult
    from dreambooth.runs.status import RunStatus
    from dreambooth.schema.verbs import GenerateSettings

__all__ = ["Picture", "Run", "make_pictures", "open_run"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that a model made."""

    prompt: str
    image: PilImage
    """RGB, in the size that was asked for."""
    settings: Mapping[str, Any]
    """Everything that repeats it: seed, index, sampler, steps, guidance_scale, width, height, the model's digest, ..."""
    path: Path | None
    """Its PNG file, which holds the settings too; None when no `output` folder was given."""


class Run:
    """A run folder. `dreambooth.train` and `dreambooth.open` return one."""

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path)
        self._built: tuple[object, BuiltModel] | None = None

    def __repr__(self) -> str:
        return f"dreambooth.open({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def settings(self) -> TrainSettings:
        """The settings that the run was started with, in sections: `run.settings.loop.steps`."""
        return parse_settings(TrainSettings, read_yaml(self._folder.config), where=str(self._folder.config))

    @property
    def model(self) -> Path | None:
        """The file of the final model; None while there is none."""
        return next((self.path / name for name in FINAL_MODELS if (self.path / name).is_file()), None)

    @property
    def status(self) -> RunStatus | None:
        """Whether the run is running, finished, stopped, failed or killed, and why; None when it never recorded it."""
        from dreambooth.runs.status import read_status

        return read_status(self._folder)

    def events(self) -> Iterator[dict[str, Any]]:
        """What the run has recorded so far, oldest first: steps, validations, scores, previews, checkpoints.

        Each event is a mapping with its kind in "event", the "step", and the "time" in seconds since 1970.
        """
        return iter(read_events(self._folder.events))

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        output: str | Path | None = None,
        on_event: Listener | None = None,
        **settings: object,
    ) -> list[Picture]:
        """Make pictures with the run's model: `num_images` (4) of the first prompt, then as many of the second, and so on.

        The model is built at the first call and stays in memory for the next ones. Files are written only into an `output`
        folder. `settings` are those of `dreambooth generate`: steps, guidance_scale, seed, sampler, width, height, ...

        Raises SettingsError for wrong settings, ModelFileError when the run has no finished model, Interrupted on Ctrl-C.
        """
        given = {"prompt": prompts, **given_only(output=output), **settings}
        asked = settings_from(
            "generate", given, fixed={"model": self.path}, hidden=("config", "weights", "prompts_file", "grid")
        )
        return make_pictures(asked, on_event=on_event, writes=output is not None, keep=self._keep)

    def evaluate(self, *, on_event: Listener | None = None, **settings: object) -> EvaluateResult:
        """Measure what the model learned, and write scores and a report into the run folder (or `output`).

        `settings` are those of `dreambooth evaluate`: num_images, sampling_steps, ... Raises a DreamboothError with what is
        missing or wrong before any picture is made, Interrupted on Ctrl-C; the same call goes on from the pictures made.
        """
        asked = settings_from("evaluate", settings, fixed={"model": self.path})
        with without_noise():
            from dreambooth.recipes.evaluate import evaluate
            from dreambooth.runtime.interrupts import process_survives

            with process_survives():
                return evaluate(asked, display_for(on_event))

    def resume(self, *, on_event: Listener | None = None, **changes: object) -> Run:
        """Continue training exactly where it stopped; returns this run when it is done.

        `changes` are settings that a run may be resumed with, such as `steps=1200`. Raises SettingsError for those that may
        not change, RunError when the run cannot be resumed, Interrupted on Ctrl-C (saved; resume again).
        """
        asked = changes_from(self.path, changes)
        self._built = None
        with without_noise():
            from dreambooth.recipes.train import resume
            from dreambooth.runtime.interrupts import process_survives

            with process_survives():
                resume(self.path, asked, display_for(on_event))
        return self

    def _keep(self, build: Callable[[], BuiltModel], key: object) -> BuiltModel:
        """The model that was built for `key` before, or else now. The one before it leaves memory first."""
        key = (key, None if self.model is None else self.model.stat().st_mtime_ns)
        if self._built is None or self._built[0] != key:
            self._built = None
            self._built = (key, build())
        return self._built[1]


def open_run(path: str | Path) -> Run:
    """Open the run in a folder that `dreambooth train` made. Raises RunError when there is none."""
    run = Path(path).expanduser()
    if not RunFolder(run).config.is_file():
        raise RunError(f"{run}: not a run folder, config.yaml is missing", hint="Give the run's output folder.")
    return Run(run)


def make_pictures(
    asked: GenerateSettings,
    *,
    on_event: Listener | None,
    writes: bool,
    keep: Callable[[Callable[[], BuiltModel], object], BuiltModel] = lambda build, _: build(),
) -> list[Picture]:
    """The pictures that the settings ask for; `keep` is given what builds the model and what it depends on."""
    with without_noise():
        from dreambooth.pictures.maker import build_model, pictures_with
        from dreambooth.recipes.generate import check_request, pictures_of
        from dreambooth.runtime.interrupts import Interrupts, process_survives
        from dreambooth.weights.read import read_model

        sample, name, display = asked.sample, asked.base.model, display_for(on_event)
        prompts, device = check_request(sample, writes=writes)
        with process_survives(), Interrupts(lambda: "Stopped while generating images."):
            base = read_model(name, config=asked.base.config, weights=asked.base.weights)

            def built() -> BuiltModel:
                return keep(lambda: build_model(sample, base, display, name=name, device=device), (device, sample.precision))

            with closing(pictures_with(built, sample, base, pictures_of(prompts, sample.num_images), display)) as made:
                return [_picture(picture, sample.output if writes else None) for picture in made]


def _picture(made: FinishedPicture, output: Path | None) -> Picture:
    from dreambooth.pages.images import save_picture, to_pil
    from dreambooth.sampling.names import file_stem, next_number, reserved

    path = None
    if output is not None:
        with reserved(output, next_number(output), file_stem(made.picture.prompt)) as path:
            save_picture(path, made.pixels_CHW, made.text)
    return Picture(made.picture.prompt, to_pil(made.pixels_CHW), json.loads(made.text["dreambooth"]), path)
