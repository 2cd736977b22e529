"""What `kill_and_resume` kills: commands of every kind with everything on that has state, and what they must leave behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dreambooth.evaluation.evaluator import Encoders
from dreambooth.families import latent_diffusion
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.files import is_leftover
from dreambooth.measures.features import FeatureCache
from dreambooth.recipes import benchmark, benchmark_subject, evaluate
from dreambooth.runs.events import read_events
from dreambooth.trainer import scoring_checks
from tests.coarse_encoder import CoarseEncoder

__all__ = ["WORKS", "Inputs", "Work", "left_behind", "use_quick_parts"]

_MAKING = "--num-prior-images 4 --prior-sampling-steps 2 --prior-batch-size 2"
_COMMON = "--class-word backpack --resolution 64 --learning-rate 1e-4 --model-dtype float32"
_STEPS = f"{_COMMON} {_MAKING}"
_FEW_IMAGES = "--sampling-steps 1 --num-images 1 --num-class-images 2"
TRAIN = (
    f"{_STEPS} --prior-target prediction --prior-examples both --warmup-steps 3 --max-gradient-norm 1 --steps 6 "
    "--ema-decay 0.9 --checkpoint-steps 2 --keep-checkpoints 2 --validation-steps 3 --preview-steps 9 --preview-prompts sks "
    "--evaluate-every 3 --evaluation-images 1 --evaluation-sampling-steps 1 --select best"
)
_LENGTH = "--steps 4 --checkpoint-steps 2 --preview-steps 0 --validation-steps 2"
SHORT = f"{_STEPS} {_LENGTH}"
_WITHOUT_CLASS_IMAGES = f"{_COMMON} {_LENGTH}"


@dataclass(frozen=True)
class Inputs:
    """Files that the commands read and never change."""

    model: Path
    photos: Path
    run: Path
    """A finished run on the photos."""
    dataset: Path
    """One subject in the layout of the DreamBooth dataset, and benchmark.yaml."""
    cutouts: Path
    """Photos of several shapes with transparent backgrounds, which are masks, and captions."""


@dataclass(frozen=True)
class Work:
    """A command that does its work below a folder, and goes on with it when it is given again."""

    command: Callable[[Inputs, Path], str]
    run: str | None = None
    """The run folder, for a training: once there are settings in it, the command that goes on is `train --resume`."""
    result: str | None = None
    """What there is when all is done, for a command that overwrites nothing and refuses to be given again."""
    is_numbered: bool = False
    """Whether each call writes all files again under new numbers."""

    def is_done(self, place: Path) -> bool:
        """Whether it must not be given again."""
        return self.result is not None and (place / self.result).exists()

    def arguments(self, inputs: Inputs, place: Path) -> list[str]:
        """The arguments of `dreambooth` as things stand."""
        if self.run is not None and (place / self.run / "config.yaml").exists():
            return ["train", "--resume", str(place / self.run)]
        return self.command(inputs, place).split()


def _train(inputs: Inputs, place: Path) -> str:
    return f"train --model {inputs.model} --photos {inputs.photos} --output {place}/runs/a {TRAIN}"


WORKS: Mapping[str, Work] = {
    "train": Work(_train, run="runs/a"),
    "replay": Work(
        lambda inputs, place: (
            f"train --model {inputs.run} --photos {inputs.photos} --token zwx --output {place}/runs/b {SHORT} --replay-images 2"
        ),
        run="runs/b",
    ),
    "lora": Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.photos} --output {place}/runs/c {SHORT} --trainee lora --rank 2"
        ),
        run="runs/c",
    ),
    "embedding": Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.photos} --output {place}/runs/d {_WITHOUT_CLASS_IMAGES} "
            "--trainee embedding --embedding-vectors 2"
        ),
        run="runs/d",
    ),
    "pivotal": Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.photos} --output {place}/runs/p {SHORT} --model-steps 2 "
            "--trainee lora --rank 2 --embedding-words dog --embedding-vectors 2"
        ),
        run="runs/p",
    ),
    "masks": Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.cutouts} --output {place}/runs/e {SHORT} --crop subject "
            "--mask-weight 0.2 --caption-dropout 0.3 --gradient-accumulation 2 --optimizer-states 8bit --model-steps 2"
        ),
        run="runs/e",
    ),
    "buckets": Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.cutouts} --output {place}/runs/f {SHORT} --crop bucket --no-masks"
        ),
        run="runs/f",
    ),
    "photos": Work(
        lambda inputs, place: (
            f"photos {inputs.cutouts} --class-word backpack --resolution 64 --crop random --output {place}/check"
        )
    ),
    "toybox photos": Work(lambda inputs, place: f"toybox photos --num-photos 3 --output {place}/rendered"),
    "lora extract": Work(
        lambda inputs, place: f"lora extract {inputs.model} {inputs.run} {place}/extracted.safetensors --rank 2",
        result="extracted.safetensors",
    ),
    "prior": Work(
        lambda inputs, place: (
            f"prior --model {inputs.model} --class-word backpack --resolution 64 --prior-folder {place}/class --prior-prompts "
            f"{inputs.dataset}/classes.txt {_MAKING}"
        )
    ),
    "generate": Work(
        lambda inputs, place: (
            f"generate --model {inputs.run} --prompt sks --prompt boat --num-images 3 --grid --sampling-steps 2 "
            f"--output {place}/images"
        ),
        is_numbered=True,
    ),
    "evaluate": Work(
        lambda inputs, place: (
            f"evaluate --model {inputs.run} --output {place}/evaluation --prompts {inputs.dataset}/few.txt {_FEW_IMAGES}"
        )
    ),
    "benchmark": Work(
        lambda inputs, place: (
            f"benchmark --dataset {inputs.dataset} --model {inputs.model} --preset {inputs.dataset}/benchmark.yaml "
            f"--subjects dog --steps 2 --output {place}/benchmark {_FEW_IMAGES}"
        )
    ),
    "convert": Work(
        lambda inputs, place: f"convert {inputs.run} {place}/written.safetensors --dtype float16", result="written.safetensors"
    ),
    "convert to a folder": Work(lambda inputs, place: f"convert {inputs.run} {place}/folder --to diffusers", result="folder"),
}


def left_behind(place: Path, work: Work) -> dict[str, str]:
    """Each file below `place` with the digest of its content but for times.

    Left out are hidden files that a killed program left in folders which several may share; the next one removes them when
    they are an hour old. In a run's own folder they must not be.
    """
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_dir() or path.name == ".lock" or (is_leftover(path) and not name.startswith(f"{work.run}/")):
            continue
        digest = hashlib.sha256(_lasting(path)).hexdigest()
        if work.is_numbered:  # a killed command's images stay, under other numbers
            number, _, stem = path.name.partition("-")
            assert number.isdigit(), path
            name, digest = f"{stem} {digest}", ""
        found[name] = digest
    return found


def _lasting(path: Path) -> bytes:
    if path.name == "events.jsonl":
        timeless = [{key: value for key, value in event.items() if key != "time"} for event in read_events(path)]
        return json.dumps(timeless).encode()
    if path.name == "status.json":
        return str(json.loads(path.read_text())["state"]).encode()
    return path.read_bytes()


def use_quick_parts() -> None:
    """Score with encoders that need no weights, and read the tokenizer once; for a process of its own."""

    def choose(*_: object, cache: Path, **__: object) -> Encoders:
        return Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(cache))

    for module in (scoring_checks, evaluate, benchmark, benchmark_subject):
        module.choose_encoders = choose  # type: ignore[attr-defined]
    latent_diffusion.load_clip_tokenizer = cache(latent_diffusion.load_clip_tokenizer)
    StableDiffusion1.load_tokenizer()
