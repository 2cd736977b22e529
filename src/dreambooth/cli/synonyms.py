"""What options of other trainers are called here: kohya's sd-scripts, the training scripts of diffusers, and OneTrainer."""

from __future__ import annotations

from collections.abc import Container, Mapping

__all__ = ["IN_OTHER_VERBS", "NOT_NEEDED", "SYNONYMS", "advice_for"]

SYNONYMS: Mapping[str, str] = {
    # diffusers
    "pretrained-model-name-or-path": "--model",
    "pretrained-vae-model-name-or-path": "--vae",
    "instance-data-dir": "--photos",
    "class-data-dir": "--prior-images",
    "with-prior-preservation": "--prior-weight 1",
    "prior-loss-weight": "--prior-weight",
    "num-class-images": "--num-prior-images",
    "sample-batch-size": "--prior-batch-size",
    "output-dir": "--output",
    "train-batch-size": "--batch-size",
    "max-train-steps": "--steps",
    "checkpointing-steps": "--checkpoint-steps",
    "checkpoints-total-limit": "--keep-checkpoints",
    "resume-from-checkpoint": "--resume",
    "gradient-accumulation-steps": "--gradient-accumulation",
    "lr-scheduler": "--learning-rate-schedule",
    "lr-warmup-steps": "--warmup-steps",
    "use-8bit-adam": "--optimizer-states 8bit",
    "mixed-precision": "--precision",
    "validation-prompt": "--preview-prompts",
    "snr-gamma": "--min-snr-gamma",
    "max-grad-norm": "--max-gradient-norm",
    "adam-weight-decay": "--weight-decay",
    "center-crop": "--crop center",
    "use-ema": "--ema-decay 0.9999",
    "report-to": "--tensorboard",
    # kohya's sd-scripts
    "train-data-dir": "--photos",
    "reg-data-dir": "--prior-images",
    "output-name": "--output",
    "save-every-n-steps": "--model-steps",
    "save-every-n-epochs": "--model-steps",
    "save-last-n-steps": "--keep-checkpoints",
    "save-precision": "--model-dtype",
    "optimizer-type": "--optimizer",
    "unet-lr": "--learning-rate",
    "text-encoder-lr": "--text-encoder-learning-rate",
    "learning-rate-te": "--text-encoder-learning-rate",
    "lr": "--learning-rate",
    "stop-text-encoder-training": "--no-train-text-encoder",
    "sample-every-n-steps": "--preview-steps",
    "sample-prompts": "--preview-prompts",
    "flip-aug": "--flip-probability 0.5",
    "max-train-epochs": "--steps",
    "num-train-epochs": "--steps",
    "prior-loss-coefficient": "--prior-weight",
    "logging-dir": "--tensorboard",
    "full-bf16": "--precision bf16",
    "fused-backward-pass": "--step-in-backward",
    "random-crop": "--crop random",
    "enable-bucket": "--crop bucket",
    "conditioning-data-dir": "--mask-folder",
    "shuffle-caption": "--shuffle-tags",
    "keep-tokens": "--keep-tags",
    "caption-dropout-rate": "--caption-dropout",
    "caption-tag-dropout-rate": "--tag-dropout",
    "network-train-unet-only": "--no-train-text-encoder",
    "network-module": "--trainee lora",
    "network-dim": "--rank",
    "network-alpha": "--alpha",
    "network-weights": "--model",
    "network-dropout": "--lora-dropout",
    "rank-dropout": "--lora-dropout",
    "algo": "--lora-kind",
    "peft-type": "--lora-kind",
    "use-dora": "--dora",
    "use-rslora": "--rank-stabilized",
    "loraplus-lr-ratio": "--lora-plus-ratio",
    "lora-rank": "--rank",
    "lora-alpha": "--alpha",
    "blocks-to-swap": "--stream-blocks",
    "lowram": "--memory-preset 6gb",
    "lowvram": "--memory-preset 6gb",
    "torch-compile": "--compile blocks",
    "save-state": "--checkpoint-steps",
    "log-with": "--tensorboard",
    # OneTrainer
    "concept-path": "--photos",
    "workspace-dir": "--output",
    "output-dtype": "--model-dtype",
    "sample-after": "--preview-steps",
    "backup-after": "--checkpoint-steps",
    # textual inversion
    "placeholder-token": "--token",
    "token-string": "--token",
    "initializer-token": "--embedding-words",
    "init-word": "--embedding-words",
    "num-vectors": "--embedding-vectors",
    "num-vectors-per-token": "--embedding-vectors",
    "num-new-tokens-per-abstraction": "--embedding-vectors",
    "initializer-concept": "--embedding-words",
    "train-text-encoder-ti": "--embedding-words",
    "embedding-lr": "--embedding-learning-rate",
    "conv-dim": "--targets",
    "base-model-name": "--model",
    "output-model-destination": "--output",
    "train-dtype": "--precision",
    "learning-rate-scheduler": "--learning-rate-schedule",
    "learning-rate-warmup-steps": "--warmup-steps",
    "clip-grad-norm": "--max-gradient-norm",
    "ema": "--ema-decay 0.9999",
    "epochs": "--steps",
    # generating images
    "num-inference-steps": "--sampling-steps",
    "ddim-steps": "--sampling-steps",
    "num-images-per-prompt": "--num-images",
    "images-per-prompt": "--num-images",
    "n-iter": "--num-images",
    "n-samples": "--num-images",
    "num-samples": "--num-images",
    "outdir": "--output",
    "negative": "--negative-prompt",
    "scale": "--guidance-scale",
    "cfg-scale": "--guidance-scale",
    "ckpt": "--model",
    "from-file": "--prompts-file",
    "sample-sampler": "--sampler",
}
"""The option with dashes and without the leading ones, to what to type here: a flag, with a value where it is fixed.

Values of other trainers are not translated.
"""

_STEPS = ("--prior-sampling-steps", "--steps")

IN_OTHER_VERBS: Mapping[str, tuple[str, ...]] = {
    "num-inference-steps": _STEPS,
    "ddim-steps": _STEPS,
    "save-precision": ("--dtype",),
    "output-dtype": ("--dtype",),
    "num-class-images": ("--num-class-images",),
    "sample-batch-size": ("--batch-size",),
    "sample-sampler": ("--prior-sampler",),
}
"""What to type in a verb that lacks the flag of SYNONYMS; the first that it has is meant."""

_START = (
    "omit it: a LoRA starts without effect here; pissa, olora and eva take a part out of the model first, so their files fit "
    "no other copy of it, or have twice the rank"
)
_ATTENTION = "omit it: attention always saves memory here"

NOT_NEEDED: Mapping[str, str] = {
    "init-lora-weights": _START,
    "lora-init": _START,
    "pissa": _START,
    "olora": _START,
    "eva": _START,
    "module-dropout": "omit it: --lora-dropout drops ranks of each example, not whole layers of a batch",
    "xformers": _ATTENTION,
    "masked-loss": "omit it: photos with masks are learned with them",
    "alpha-mask": "omit it: transparent parts of photos are masked",
    "enable-wildcard": "omit it: {red|blue} in a caption stands for both",
    "sdpa": _ATTENTION,
    "mem-eff-attn": _ATTENTION,
    "enable-xformers-memory-efficient-attention": _ATTENTION,
    "network-args": "omit it: what kohya's networks read there has its own flags: --lora-kind, --targets, --lora-dropout",
    "train-text-encoder-ti-frac": "omit it: a new word is trained in every step",
    "cache-latents": "omit it: latents that do not change are always kept",
    "caption-extension": "omit it: .txt, .caption and .json files next to the photos are read",
}
"""Options of training that have no equal here, with the reason."""


def advice_for(name: str, names: Container[str]) -> str | None:
    """What to do instead of an option of another trainer, in a verb whose flags are called `names` (all without dashes before).

    None if it is no such option, or if the verb has no such flag.
    """
    name = name.lower()
    if name in NOT_NEEDED and "learning-rate" in names:
        return NOT_NEEDED[name]
    proposals = (SYNONYMS[name], *IN_OTHER_VERBS.get(name, ())) if name in SYNONYMS else ()
    here = next((text for text in proposals if text.split()[0].removeprefix("--") in names), None)
    return None if here is None else f"did you mean {here}?"
