"""The verbs of the command line as a table of constants, so that `dreambooth --help` loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

__all__ = ["DREAMBOOTH", "LORA", "TOYBOX", "VERBS", "Program", "Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb: its help texts, its settings and its recipe."""

    name: str
    sentence: str
    settings: str
    """Module and name of the record whose leaves are the flags; a name alone is one of `dreambooth.schema.verbs`."""
    recipe: str
    """Module and function, loaded only after all arguments are valid."""
    usage: tuple[str, ...]
    """Usage after `dreambooth NAME`, one line for each form."""
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()
    """Leaves that are positional arguments."""
    without: tuple[str, ...] = ()
    """Leaves that have no effect for this verb and get no flag."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Flags that say where settings come from, with their help; they are not settings themselves."""
    former_names: Mapping[str, str] = field(default_factory=dict)
    """Names that leaves had before, which flags and keyword arguments may still have, to their names today."""
    program: str = "dreambooth"
    """The command before the verb."""

    @property
    def command(self) -> str:
        """The command before the arguments."""
        return f"{self.program} {self.name}"

    def record(self) -> Any:
        """The settings record, loaded on first use."""
        module, _, name = self.settings.rpartition(":")
        return getattr(import_module(module or "dreambooth.schema.verbs"), name)


@dataclass(frozen=True)
class Program:
    """A command with verbs."""

    name: str
    sentence: str
    verbs: Mapping[str, Verb]
    below: Mapping[str, Program] = field(default_factory=dict)
    """Names of programs with verbs of their own."""


_NOTIFY = (
    "Send a notice when the command ends: to a webhook, given by its address (JSON by POST), or to a program, given in quotes "
    "with its arguments (JSON on standard input). Not stored in the run."
)
_WITHOUT_EFFECT_ON_MEMORY = (
    "lora",
    *("smallest_side", "flip_probability", "prior_flip_probability", "background"),
    *("num_prior_images", "class_prompt", "also_prior", "prior_sampler", "prior_sampling_steps", "prior_latents"),
    *("prior_prompts", "prior_target", "keep_predictions", "replay", "replay_images"),
    *("prior_folder", "original_pairing", "photo_repeats", "prior_repeats"),
    *(
        "alpha",
        "rank_stabilized",
        "lora_plus_ratio",
        "lora_dropout",
        "lora_form",
        "embedding_learning_rate",
        "text_encoder_learning_rate",
        "learning_rate",
        "learning_rate_schedule",
        "warmup_steps",
    ),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_gradient_norm"),
    *("steps", "min_snr_gamma", "noise_offset", "seed", "compile", "max_train_hours", "shard"),
    *("output", "file_layout", "checkpoint_steps", "model_steps", "keep_checkpoints", "model_dtype"),
    *("image_log_steps", "image_log_pictures", "validation_steps", "tensorboard", "wandb"),
    *("select", "evaluation_images", "evaluation_sampling_steps", "dino", "clip"),
    *("balance_fidelity", "balance_prompt", "balance_prior", "early_stop_margin", "early_stop_patience"),
)

_ALL = (
    Verb(
        name="train",
        sentence="Train a base model on one subject or several, from photos.",
        settings="TrainSettings",
        recipe="dreambooth.recipes.train:train",
        usage=("--model MODEL --photos FOLDER --class-word WORD", "--model MODEL --subjects FILE.yaml", "--resume RUN"),
        examples=(
            "dreambooth train --model sd-v1-4.ckpt --photos photos/rex \\\n    --class-word dog --output runs/rex",
            "dreambooth train --resume runs/rex --steps 1200",
        ),
        extra={
            "notify": _NOTIFY,
            "preset": "Settings to start from: a built-in preset ({presets}) or a YAML file such as a run's config.yaml.",
            "resume": "Run folder to resume, with its own settings.",
        },
    ),
    Verb(
        name="photos",
        sentence="Check photos as training does, and show on a page what training would see.",
        settings="dreambooth.pages.settings:PhotoCheckSettings",
        recipe="dreambooth.recipes.photos:check_photos",
        usage=("FOLDER --class-word WORD", "--subjects FILE.yaml"),
        examples=("dreambooth photos photos/rex --class-word dog --crop random",),
        positional=("photos",),
        without=("prior_flip_probability",),
    ),
    Verb(
        name="generate",
        sentence="Generate images with a base model or a trained one.",
        settings="GenerateSettings",
        recipe="dreambooth.recipes.generate:generate",
        usage=("--model MODEL --prompt TEXT...",),
        examples=('dreambooth generate --model runs/rex --prompt "a sks dog" "a boat"',),
        former_names={"steps": "sampling_steps"},
    ),
    Verb(
        name="evaluate",
        sentence="Evaluate a trained model: subject fidelity, prompt fidelity and preservation of the class.",
        settings="EvaluateSettings",
        recipe="dreambooth.recipes.evaluate:evaluate",
        usage=("--model RUN", "--model MODEL --photos FOLDER --class-word WORD --token WORD"),
        examples=(
            "dreambooth evaluate --model runs/rex",
            "dreambooth evaluate --model rex.ckpt --base sd-v1-4.ckpt \\\n    --photos photos/rex --class-word dog --token sks",
        ),
    ),
    Verb(
        name="benchmark",
        sentence="Run the paper's protocol: train on every subject of a dataset, generate every prompt and evaluate.",
        settings="BenchmarkSettings",
        recipe="dreambooth.recipes.benchmark:benchmark",
        usage=("--dataset FOLDER --model MODEL", "--dataset toybox"),
        examples=(
            "dreambooth benchmark --dataset dreambooth/dataset --model sd-v1-4.ckpt",
            "dreambooth benchmark --dataset toybox --quick",
        ),
        without=("prompts", "num_checkpoint_images"),
        extra={"notify": _NOTIFY},
    ),
    Verb(
        name="batch",
        sentence="Train one model for each subject of a list, on all GPUs.",
        settings="dreambooth.runs.settings:BatchSettings",
        recipe="dreambooth.recipes.batch:batch",
        usage=("SUBJECTS",),
        examples=("dreambooth batch subjects.yaml --output runs/pets",),
        positional=("subjects",),
        extra={"notify": _NOTIFY},
    ),
    Verb(
        name="prior",
        sentence="Generate a set of class images without training.",
        settings="PriorRecipeSettings",
        recipe="dreambooth.recipes.prior:prior",
        usage=("--model MODEL --class-word WORD",),
        examples=(
            "dreambooth prior --model sd-v1-4.ckpt --class-word dog --num-prior-images 200",
            "dreambooth prior --model sd-v1-4.ckpt --class-word dog --preset pet",
        ),
        extra={
            "preset": "Settings to start from: a built-in preset ({presets}) or a YAML file such as a run's config.yaml; the "
            "images are those that training with it would generate.",
        },
        without=(
            *("prior_weight", "prior_images", "also_prior", "prior_latents", "prior_target", "prior_examples"),
            *("keep_predictions", "replay", "replay_images"),
            *("original_pairing", "photo_repeats", "prior_repeats"),
        ),
    ),
    Verb(
        name="plan",
        sentence="Predict how much memory training needs under each memory preset.",
        settings="PlanSettings",
        recipe="dreambooth.recipes.plan:plan_memory",
        usage=("[--model MODEL]",),
        examples=(
            "dreambooth plan",
            "dreambooth plan --model sd-v1-4.ckpt --no-train-text-encoder --gpu-memory 7.5",
            "dreambooth plan --crop bucket --photos photos/rex --gpu-memory 8",
            "dreambooth plan --preset runs/rex/config.yaml --gpu-memory 24",
        ),
        without=_WITHOUT_EFFECT_ON_MEMORY,
        extra={
            "preset": "Settings to start from: a built-in preset ({presets}) or a YAML file such as a run's config.yaml.",
        },
    ),
    Verb(
        name="convert",
        sentence="Convert a model to a single file or a diffusers folder.",
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
        sentence="Show what a model file contains, and how the tokenizer splits a word.",
        settings="InspectSettings",
        recipe="dreambooth.recipes.inspect:inspect_model",
        usage=("MODEL", "--token WORD"),
        examples=("dreambooth inspect sd-v1-4.ckpt", "dreambooth inspect --token sks --token rex"),
        positional=("model",),
    ),
    Verb(
        name="tokens",
        sentence="Suggest rare single-token words to name a subject with.",
        settings="TokensSettings",
        recipe="dreambooth.recipes.tokens:propose_tokens",
        usage=("",),
        examples=("dreambooth tokens --num-tokens 20",),
    ),
    Verb(
        name="demo",
        sentence="Try the whole workflow on the bundled model (toybox): photos, training, images and a report.",
        settings="DemoSettings",
        recipe="dreambooth.recipes.demo:demo",
        usage=("",),
        examples=("dreambooth demo",),
    ),
    Verb(
        name="masks",
        sentence="Make masks of the subject with a segmentation model, and a sheet to check them.",
        settings="dreambooth.measures.settings:MasksSettings",
        recipe="dreambooth.recipes.masks:propose_masks",
        usage=("FOLDER --class-word WORD",),
        examples=("dreambooth masks photos/rex --class-word dog",),
        positional=("photos",),
    ),
    Verb(
        name="caption",
        sentence="Write a caption for each photo with a vision model: the subject's name, then place, action and light.",
        settings="dreambooth.measures.settings:CaptionSettings",
        recipe="dreambooth.recipes.caption:write_captions",
        usage=("FOLDER --class-word WORD",),
        examples=("dreambooth caption photos/rex --class-word dog",),
        positional=("photos",),
    ),
    Verb(
        name="push",
        sentence="Publish a run's model on the Hugging Face hub, with a model card.",
        settings="dreambooth.weights.settings:PushSettings",
        recipe="dreambooth.recipes.push:push",
        usage=("RUN --repo OWNER/NAME",),
        examples=("dreambooth push runs/rex --repo me/rex --dry-run", "dreambooth push runs/rex --repo me/rex"),
        positional=("run",),
    ),
    Verb(
        name="web",
        sentence="Open the browser interface: the whole way from photos to a model file.",
        settings="dreambooth.web.settings:WebSettings",
        recipe="dreambooth.web.serve:web",
        usage=("",),
        examples=("dreambooth web", "dreambooth web --folder projects --port 8000"),
    ),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _ALL}

_TOYBOX_NAME = "dreambooth toybox"
_TOYBOX_VERBS = (
    Verb(
        name="photos",
        sentence="Render photos of one toybox subject to train on.",
        settings="PhotosSettings",
        recipe="dreambooth.recipes.toybox:render_photos",
        usage=("--subject NAME --output FOLDER",),
        examples=(f"{_TOYBOX_NAME} photos --subject zigzag-mug --output photos/mug",),
        program=_TOYBOX_NAME,
    ),
    Verb(
        name="sheet",
        sentence="Render a contact sheet of the toybox world: every class on every background, and the subjects.",
        settings="SheetSettings",
        recipe="dreambooth.recipes.toybox:render_sheet",
        usage=("--output FILE.png",),
        examples=(f"{_TOYBOX_NAME} sheet --output world.png",),
        program=_TOYBOX_NAME,
    ),
)

TOYBOX = Program(
    _TOYBOX_NAME,
    "Render the toybox world that the bundled model knows: training photos and a contact sheet.",
    {verb.name: verb for verb in _TOYBOX_VERBS},
)

_LORA_NAME = "dreambooth lora"
_LORA_VERBS = (
    Verb(
        name="extract",
        sentence="Write the difference between a model and its base model as a LoRA file.",
        settings="dreambooth.weights.settings:LoraExtractSettings",
        recipe="dreambooth.recipes.lora:extract",
        usage=("BASE TUNED OUTPUT",),
        examples=(
            f"{_LORA_NAME} extract sd-v1-4.ckpt runs/rex rex.safetensors --rank 64",
            f"{_LORA_NAME} extract sd-v1-4.ckpt runs/rex rex.safetensors --rank auto --energy 0.9",
        ),
        positional=("base", "tuned", "output"),
        program=_LORA_NAME,
    ),
    Verb(
        name="merge",
        sentence="Merge LoRA files into one, or into a model.",
        settings="dreambooth.weights.settings:LoraMergeSettings",
        recipe="dreambooth.recipes.lora:merge",
        usage=("OUTPUT --lora FILE[:RATIO] --lora FILE[:RATIO]...",),
        examples=(
            f"{_LORA_NAME} merge both.safetensors --lora rex.safetensors:0.8 --lora mia.safetensors",
            f"{_LORA_NAME} merge rex-model.safetensors --model sd-v1-4.ckpt --lora rex.safetensors",
        ),
        positional=("output",),
        program=_LORA_NAME,
    ),
    Verb(
        name="resize",
        sentence="Write a LoRA file with another rank.",
        settings="dreambooth.weights.settings:LoraResizeSettings",
        recipe="dreambooth.recipes.lora:resize",
        usage=("SOURCE OUTPUT",),
        examples=(f"{_LORA_NAME} resize rex.safetensors rex-8.safetensors --rank 8",),
        positional=("source", "output"),
        program=_LORA_NAME,
    ),
    Verb(
        name="convert",
        sentence="Write a LoRA file with the names of other programs.",
        settings="dreambooth.weights.settings:LoraConvertSettings",
        recipe="dreambooth.recipes.lora:convert",
        usage=("SOURCE OUTPUT --form peft",),
        examples=(f"{_LORA_NAME} convert rex.safetensors rex-peft.safetensors --form peft",),
        positional=("source", "output"),
        program=_LORA_NAME,
    ),
)

LORA = Program(
    _LORA_NAME,
    "Make LoRA files from models and from other LoRA files.",
    {verb.name: verb for verb in _LORA_VERBS},
)

DREAMBOOTH = Program(
    "dreambooth",
    "Teach Stable Diffusion a new subject from a few photos without forgetting the rest.",
    VERBS,
    below={"lora": LORA, "toybox": TOYBOX},
)
