"""What options of other trainers are called here: kohya's sd-scripts, the training scripts of diffusers, and OneTrainer."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SYNONYMS"]

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
    # OneTrainer
    "base-model-name": "--model",
    "output-model-destination": "--output",
    "train-dtype": "--precision",
    "learning-rate-scheduler": "--learning-rate-schedule",
    "learning-rate-warmup-steps": "--warmup-steps",
    "clip-grad-norm": "--max-gradient-norm",
    "ema": "--ema-decay 0.9999",
    "epochs": "--steps",
    # generating images
    "num-inference-steps": "--steps",
    "n-samples": "--num-images",
    "num-samples": "--num-images",
    "outdir": "--output",
    "negative": "--negative-prompt",
    "scale": "--guidance-scale",
    "cfg-scale": "--guidance-scale",
    "ckpt": "--model",
}
"""The option with dashes and without the leading ones, to what to type here: a flag, with a value where it is fixed.

Values of other trainers are not translated.
"""
