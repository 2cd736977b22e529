"""The meaning of every key in the original YAML files. The table is complete, so no key is silently ignored.

`lightning.trainer` holds the options of PyTorch Lightning 1.5.9, each of which is also an option of `main.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from dreambooth.config import nearest

__all__ = ["TRAINER", "TRAINER_OPTIONS", "Rule", "is_section", "nearest_key", "rule_of"]

Kind = Literal["sets", "fixed", "structure", "class name", "idle", "unneeded", "refused"]


@dataclass(frozen=True)
class Rule:
    """How a key is handled.

    sets: the key maps to one of our settings. fixed: only the values in `expected` are allowed. structure: compared with the
    checkpoint. class name: names a class in the original's code and is ignored. idle: had no effect in the original and has
    none here. unneeded: controlled something that does not exist here. refused: would change the result and is not supported.
    """

    kind: Kind
    setting: str = ""
    """Dotted path of our setting."""
    expected: tuple[Any, ...] = ()
    advice: str = ""
    """For a refused key: what to do instead."""


def _sets(setting: str) -> Rule:
    return Rule("sets", setting)


def _fixed(*expected: Any) -> Rule:
    return Rule("fixed", expected=expected)


def _refused(advice: str) -> Rule:
    return Rule("refused", advice=advice)


_STRUCTURE, _IDLE, _UNNEEDED = Rule("structure"), Rule("idle"), Rule("unneeded")

TRAINER = "lightning.trainer."

_TRAINER: Mapping[str, Rule] = {
    "gpus": _sets("gpus"),
    "max_steps": _sets("loop.steps"),
    "accumulate_grad_batches": _sets("loop.gradient_accumulation"),
    "precision": _sets("memory.precision"),
    "gradient_clip_val": _sets("optimizer.max_gradient_norm"),
    "max_time": _sets("loop.max_train_hours"),
    "gradient_clip_algorithm": _fixed("norm", None),
    "accelerator": _fixed("gpu", "ddp", "auto", None),
    "strategy": _fixed("ddp", "ddp_find_unused_parameters_false", None),
    "num_nodes": _fixed(1),
    "max_epochs": _refused("The length of training is a number of steps: use --max_steps."),
    "limit_train_batches": _refused("The length of training is a number of steps: use --max_steps."),
    "overfit_batches": _refused("Put the photos to overfit on into a separate folder."),
    "fast_dev_run": _refused("Use --max_steps 1."),
    "auto_lr_find": _refused("Set the learning rate: model.base_learning_rate=1e-6."),
    "auto_scale_batch_size": _refused("`dreambooth plan` shows which batch size fits; set data.params.batch_size."),
    "stochastic_weight_avg": _refused("model.params.use_ema=true keeps an average of the weights."),
    "tpu_cores": _refused("Training runs on GPUs or on the CPU."),
    "ipus": _refused("Training runs on GPUs or on the CPU."),
    "devices": _refused("Name the GPUs: --gpus 0,1."),
    "resume_from_checkpoint": _refused("Use the log folder: --resume logs/FOLDER."),
    **dict.fromkeys(
        (
            *("logger", "checkpoint_callback", "enable_checkpointing", "default_root_dir", "process_position"),
            *("num_processes", "auto_select_gpus", "log_gpu_memory", "progress_bar_refresh_rate", "enable_progress_bar"),
            *("track_grad_norm", "check_val_every_n_epoch", "min_epochs", "min_steps", "limit_val_batches"),
            *("limit_test_batches", "limit_predict_batches", "val_check_interval", "flush_logs_every_n_steps"),
            *("log_every_n_steps", "sync_batchnorm", "enable_model_summary", "weights_summary", "weights_save_path"),
            *("num_sanity_val_steps", "profiler", "benchmark", "deterministic", "reload_dataloaders_every_n_epochs"),
            *("reload_dataloaders_every_epoch", "replace_sampler_ddp", "detect_anomaly", "prepare_data_per_node"),
            *("plugins", "amp_backend", "amp_level", "move_metrics_to_cpu", "multiple_trainloader_mode"),
            "terminate_on_nan",
        ),
        _UNNEEDED,
    ),
}
TRAINER_OPTIONS = tuple(_TRAINER)

_MODEL = "model.params."
_UNET, _VAE = f"{_MODEL}unet_config.", f"{_MODEL}first_stage_config."
_TRAIN, _REG = "data.params.train.params.", "data.params.reg.params."

_RULES: Mapping[str, Rule] = {
    **{f"{TRAINER}{name}": rule for name, rule in _TRAINER.items()},
    "model.base_learning_rate": _sets("optimizer.learning_rate"),
    f"{_MODEL}reg_weight": _sets("prior.prior_weight"),
    f"{_MODEL}cond_stage_trainable": _sets("trainee.train_text_encoder"),
    f"{_MODEL}use_ema": _sets("loop.ema_decay"),
    f"{_MODEL}unfreeze_model": _fixed(True),
    f"{_MODEL}loss_type": _fixed("l2"),
    f"{_MODEL}beta_schedule": _fixed("linear"),
    f"{_MODEL}parameterization": _STRUCTURE,
    f"{_MODEL}original_elbo_weight": _fixed(0),
    f"{_MODEL}l_simple_weight": _fixed(1),
    f"{_MODEL}learn_logvar": _fixed(False),
    f"{_MODEL}logvar_init": _fixed(0),
    f"{_MODEL}v_posterior": _fixed(0),
    f"{_MODEL}concat_mode": _fixed(True, False),
    f"{_MODEL}scale_by_std": _fixed(False),
    f"{_MODEL}scheduler_config.*": _refused("Remove it; `dreambooth train --warmup-steps N` supports warm-up."),
    f"{_MODEL}embedding_reg_weight": _IDLE,
    f"{_MODEL}model_lr": _IDLE,
    f"{_MODEL}ckpt_path": _IDLE,
    f"{_MODEL}personalization_config.*": _IDLE,
    **dict.fromkeys(
        (f"{_MODEL}linear_start", f"{_MODEL}linear_end", f"{_MODEL}timesteps", f"{_MODEL}scale_factor"), _STRUCTURE
    ),
    **dict.fromkeys((f"{_MODEL}channels", f"{_MODEL}conditioning_key"), _STRUCTURE),
    f"{_MODEL}image_size": _UNNEEDED,
    **dict.fromkeys(
        (
            f"{_MODEL}{name}"
            for name in ("num_timesteps_cond", "log_every_t", "first_stage_key", "cond_stage_key", "monitor", "clip_denoised")
        ),
        _UNNEEDED,
    ),
    **{
        f"{_UNET}params.{name}": _STRUCTURE
        for name in (
            *("in_channels", "out_channels", "model_channels", "num_res_blocks", "num_heads", "num_head_channels"),
            *("transformer_depth", "context_dim", "use_linear_in_transformer", "channel_mult", "attention_resolutions"),
            *("use_spatial_transformer", "legacy"),
        )
    },
    **dict.fromkeys((f"{_UNET}params.{name}" for name in ("image_size", "use_checkpoint", "use_fp16")), _UNNEEDED),
    f"{_VAE}params.embed_dim": _STRUCTURE,
    **{
        f"{_VAE}params.ddconfig.{name}": _STRUCTURE
        for name in ("double_z", "z_channels", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "attn_resolutions")
    },
    f"{_VAE}params.ddconfig.resolution": _UNNEEDED,
    f"{_VAE}params.ddconfig.dropout": _fixed(0),
    **{f"{_VAE}params.{name}": _UNNEEDED for name in ("monitor", "lossconfig.*", "ckpt_path")},
    f"{_MODEL}cond_stage_config.params.*": _UNNEEDED,
    f"{_MODEL}cond_stage_config.target": _STRUCTURE,
    "data.params.batch_size": _sets("loop.batch_size"),
    "data.params.num_workers": _UNNEEDED,
    "data.params.wrap": _fixed(False),
    f"{_TRAIN}size": _sets("views.resolution"),
    f"{_TRAIN}repeats": _sets("prior.photo_repeats"),
    f"{_TRAIN}flip_p": _sets("views.flip_probability"),
    f"{_TRAIN}center_crop": _sets("views.crop"),
    f"{_TRAIN}data_root": _sets("subject.photos"),
    f"{_TRAIN}placeholder_token": _sets("subject.class_word"),
    f"{_TRAIN}coarse_class_text": _sets("coarse_class_text"),
    f"{_TRAIN}reg": _fixed(False),
    f"{_REG}repeats": _sets("prior.prior_repeats"),
    f"{_REG}flip_p": _sets("views.prior_flip_probability"),
    f"{_REG}data_root": _sets("prior.prior_images"),
    f"{_REG}reg": _fixed(True),
    # Class images cannot differ from the photos in these; `main.py` itself set both to one value.
    f"{_REG}size": Rule("fixed", setting=f"{_TRAIN}size"),
    f"{_REG}center_crop": Rule("fixed", setting=f"{_TRAIN}center_crop"),
    f"{_REG}placeholder_token": Rule("fixed", setting=f"{_TRAIN}placeholder_token"),
    f"{_REG}coarse_class_text": Rule("fixed", setting=f"{_TRAIN}coarse_class_text"),
    **{
        f"{section}{name}": rule
        for section in (_TRAIN, _REG)
        for name, rule in {
            "set": _fixed("train"),
            "interpolation": _fixed("bicubic"),
            "per_image_tokens": _fixed(False),
            "mixing_prob": _IDLE,
        }.items()
    },
    "data.params.validation.*": _UNNEEDED,
    "data.params.test.*": _UNNEEDED,
    "lightning.modelcheckpoint.params.every_n_train_steps": _sets("output.checkpoint_steps"),
    "lightning.modelcheckpoint.*": _UNNEEDED,
    "lightning.callbacks.image_logger.params.batch_frequency": _sets("output.image_log_steps"),
    "lightning.callbacks.image_logger.params.max_images": _sets("output.image_log_pictures"),
    "lightning.callbacks.image_logger.params.disabled": _sets("image_log"),
    **dict.fromkeys(
        (f"lightning.callbacks.image_logger.params.{name}" for name in ("increase_log_steps", "clamp", "rescale")), _UNNEEDED
    ),
    "lightning.callbacks.image_logger.params.log_images_kwargs.*": _refused(
        "The image log always uses 200 DDIM steps with eta 1, at guidance scales 1 and 5."
    ),
    "lightning.callbacks.metrics_over_trainsteps_checkpoint.params.every_n_train_steps": _sets("output.model_steps"),
    **dict.fromkeys(
        (
            f"lightning.callbacks.{name}.*"
            for name in (
                *("metrics_over_trainsteps_checkpoint", "setup_callback", "learning_rate_logger", "cuda_callback"),
                "checkpoint_callback",
            )
        ),
        _UNNEEDED,
    ),
    "lightning.logger.*": _UNNEEDED,
}


def rule_of(key: str) -> Rule | None:
    """The rule for a dotted key; None for a key that the original program does not know either."""
    if key.endswith(".target") and key != f"{_MODEL}cond_stage_config.target":
        return Rule("class name")
    if (rule := _RULES.get(key)) is not None:
        return rule
    return next((rule for pattern, rule in _RULES.items() if "*" in pattern and fnmatchcase(key, pattern)), None)


def is_section(key: str) -> bool:
    """Whether known keys exist below a dotted key."""
    return any(known.startswith(f"{key}.") for known in _RULES)


def nearest_key(key: str) -> str | None:
    """The known key most similar to `key`: one in the same section, otherwise one with a similar last name."""
    known = [pattern for pattern in _RULES if "*" not in pattern]
    section, _, name = key.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    if (near := nearest(name, siblings)) is not None:
        return siblings[near]
    anywhere = {other.rpartition(".")[2]: other for other in known}
    return anywhere[near] if (near := nearest(name, anywhere)) is not None else None
