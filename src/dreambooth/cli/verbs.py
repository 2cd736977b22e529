"""The verbs of the command line as a table of plain words, so that `dreambooth --help` needs to load nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["VERBS", "Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb: what it says of itself, and where its settings and its recipe are."""

    name: str
    sentence: str
    settings: str
    """Name of the record in `dreambooth.recipes.settings` whose leaves are the flags."""
    recipe: str
    """Module and function, loaded only when every argument is right."""
    usage: tuple[str, ...]
    """What stands after `dreambooth NAME` in the help, one line for each way."""
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()
    """Leaves that are given by place."""
    without: tuple[str, ...] = ()
    """Leaves that would have no effect for this verb and are no flags."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Flags that say where settings come from, with their sentences; they are no settings themselves."""


_ALL = (
    Verb(
        name="train",
        sentence="Teach a base model one subject from a folder of photos.",
        settings="TrainSettings",
        recipe="dreambooth.recipes.train:train",
        usage=("--model MODEL --photos FOLDER --class-word WORD", "--resume RUN"),
        examples=(
            "dreambooth train --model sd-v1-4.ckpt --photos photos/rex \\\n    --class-word dog --output runs/rex",
            "dreambooth train --resume runs/rex --steps 1200",
        ),
        extra={
            "preset": "Settings to start from: a shipped preset ({presets}) or a YAML file such as a run's config.yaml.",
            "resume": "Run folder to go on with, with its own settings.",
        },
    ),
    Verb(
        name="generate",
        sentence="Make pictures with a base model or with what training wrote.",
        settings="GenerateSettings",
        recipe="dreambooth.recipes.generate:generate",
        usage=("--model MODEL --prompt TEXT...",),
        examples=('dreambooth generate --model runs/rex --prompt "a sks dog" "a boat"',),
    ),
    Verb(
        name="prior",
        sentence="Make a set of class images without training.",
        settings="PriorRecipeSettings",
        recipe="dreambooth.recipes.prior:prior",
        usage=("--model MODEL --class-word WORD",),
        examples=("dreambooth prior --model sd-v1-4.ckpt --class-word dog --num-prior-images 200",),
        without=("prior_weight", "prior_images", "also_prior"),
    ),
    Verb(
        name="convert",
        sentence="Rewrite a model as one file or as a diffusers folder.",
        settings="ConvertSettings",
        recipe="dreambooth.recipes.convert:convert",
        usage=("SOURCE DESTINATION",),
        examples=(
            "dreambooth convert runs/rex rex.safetensors --dtype float16",
            "dreambooth convert sd-v1-4.ckpt sd-v1-4-diffusers --to diffusers",
        ),
        positional=("source", "destination"),
    ),
    Verb(
        name="inspect",
        sentence="Say what a model file holds, and what the tokenizer makes of a word.",
        settings="InspectSettings",
        recipe="dreambooth.recipes.inspect:inspect_model",
        usage=("MODEL", "--token WORD"),
        examples=("dreambooth inspect sd-v1-4.ckpt", "dreambooth inspect --token sks --token rex"),
        positional=("model",),
    ),
    Verb(
        name="tokens",
        sentence="Propose rare words that are a single token, to name a subject with.",
        settings="TokensSettings",
        recipe="dreambooth.recipes.tokens:propose_tokens",
        usage=("",),
        examples=("dreambooth tokens --num-tokens 20",),
    ),
    Verb(
        name="demo",
        sentence="Run the main job once, small: train on photos that ship with the package, then make pictures.",
        settings="DemoSettings",
        recipe="dreambooth.recipes.demo:demo",
        usage=("",),
        examples=("dreambooth demo",),
    ),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _ALL}
