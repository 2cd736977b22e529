"""Which flags the short help shows, and which of the long help come last."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LAST", "SHORT"]

SHORT: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("model", "photos", "class_word", "token", "output", "preset", "resume"),
        *("steps", "learning_rate", "trainee", "train_text_encoder", "prior_images", "num_prior_images"),
        *("memory_preset", "seed"),
    ),
}
"""Verb to the names that `-h` shows, in this order. The other verbs have few enough flags to show all."""

_ADVANCED = (
    *("weights", "vae", "prediction", "zero_terminal_snr", "allow_silent_token", "prior_flip_probability", "background"),
    *("masks", "mask_folder", "mask_weight", "shuffle_tags", "tag_dropout", "keep_tags", "caption_dropout"),
    *("prior_target", "prior_examples", "keep_predictions", "replay_images", "prior_sampler", "prior_sampling_steps"),
    *(
        "prior_guidance_scale",
        "prior_batch_size",
        "lora_kind",
        "alpha",
        "targets",
        "dora",
        "rank_stabilized",
        "lora_plus_ratio",
        "lora_dropout",
        "lora_form",
        "embedding_vectors",
        "embedding_words",
        "embedding_learning_rate",
        "train_token_table",
        "text_encoder_learning_rate",
    ),
    *("warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_gradient_norm"),
    *(
        "min_snr_gamma",
        "noise_offset",
        "ema_decay",
        "compile",
        "optimizer_states",
        "gradient_checkpointing",
        "micro_batch_size",
    ),
    *("step_in_backward", "states_on_host", "stream_blocks", "shard", "validation_steps"),
    *("evaluation_images", "evaluation_sampling_steps", "dino", "clip", "balance_fidelity", "balance_prompt", "balance_prior"),
    *("early_stop_margin", "early_stop_patience"),
)
_COMPATIBILITY = (
    *("config", "prior_latents", "original_pairing", "photo_repeats", "prior_repeats"),
    *("file_layout", "image_log_steps", "image_log_pictures"),
)

LAST: Mapping[str, tuple[str, ...]] = {
    "Advanced": _ADVANCED,
    "Compatibility with the original programs": _COMPATIBILITY,
}
"""Heading to names that verbs with more flags than a screen holds show below all others."""
