"""Translation of the original YAML keys into our settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dreambooth.compat.config_keys import Rule, is_section, nearest_key, rule_of
from dreambooth.compat.translation import Collected, Key, truth

__all__ = ["translate_keys"]

_PRECISIONS = {"16": "fp16-mixed", "32": "fp32", "bf16": "bf16-mixed"}
_SWITCHES = ("trainee.train_text_encoder",)
_NO_IMAGE_LOG = "lightning.callbacks.image_logger.params.disabled"
_EMA_DECAY = 0.9999  # of the original's LitEma


def translate_keys(keys: Mapping[str, Key], collected: Collected) -> None:
    """Collect every key that maps to one of our settings, and the problems and notes for the others."""
    idle, unneeded = list[str](), list[str]()
    for name, key in keys.items():
        rule = rule_of(name)
        if rule is None:
            collected.problems.extend(_unknown(name, key))
        elif rule.kind == "idle":
            idle.append(name)
        elif rule.kind == "unneeded":
            unneeded.append(name)
        elif rule.kind == "refused" and key.value not in (None, False):
            collected.problems.append(f"{key.name} is {key.value!r}, which is not supported. {rule.advice}")
        elif rule.kind == "fixed":
            _check_fixed(key, rule, keys, collected)
        elif rule.kind == "sets" and key.value is not None:
            _CONVERTERS.get(rule.setting, _as_it_is)(rule.setting, key, collected)
    _leave_out_image_log(keys.get(_NO_IMAGE_LOG), collected)
    if idle:
        collected.notes.append(f"Ignored, because these had no effect in the original either: {', '.join(idle)}")
    if unneeded:
        collected.notes.append(f"Ignored, because they are not needed here: {', '.join(unneeded)}")


def _unknown(name: str, key: Key) -> list[str]:
    if is_section(name):  # an empty section, or a value in place of one
        return [] if key.value is None else [f"{key.name} is {key.value!r}: expected a section of keys"]
    where, _, _ = key.name.rpartition(name)
    near = nearest_key(name)
    return [f"{where}unknown key {name}" + (f"; did you mean {near}?" if near else "")]


def _check_fixed(key: Key, rule: Rule, keys: Mapping[str, Key], collected: Collected) -> None:
    if rule.setting:
        photos = keys.get(rule.setting)
        if photos is None or photos.value != key.value:
            photos_value = "missing" if photos is None else repr(photos.value)
            other = rule.setting if photos is None else photos.name
            collected.problems.append(
                f"{key.name} is {key.value!r} and {other} is {photos_value}: expected the same value for both"
            )
    elif key.value not in rule.expected:
        expected = " or ".join(str(value) for value in rule.expected if value is not None)
        collected.problems.append(f"{key.name} is {key.value!r}: expected {expected}; nothing else is supported")


def _as_it_is(setting: str, key: Key, collected: Collected) -> None:
    if isinstance(key.value, bool) and setting not in _SWITCHES:
        collected.problems.append(f"{key.name} is {str(key.value).lower()}: expected a number or text")
    else:
        collected.set(setting, key.value, key.name)


def _ema_decay(setting: str, key: Key, collected: Collected) -> None:
    if truth(key.value, key.name, collected):
        collected.set(setting, _EMA_DECAY, key.name)


def _crop(setting: str, key: Key, collected: Collected) -> None:
    if truth(key.value, key.name, collected):
        collected.set(setting, "center", key.name)


def _precision(setting: str, key: Key, collected: Collected) -> None:
    if (precision := _PRECISIONS.get(str(key.value))) is None:
        collected.problems.append(f"{key.name} is {key.value!r}: expected 16, 32 or bf16")
    else:
        collected.set(setting, precision, key.name)


def _gradient_norm(setting: str, key: Key, collected: Collected) -> None:
    if str(key.value) not in ("0", "0.0"):  # 0 meant no limit
        collected.set(setting, key.value, key.name)


def _hours(setting: str, key: Key, collected: Collected) -> None:
    text = str(key.value)
    if isinstance(key.value, int):  # YAML reads 1:00:00:00 as a number in base 60
        minutes, seconds = divmod(key.value, 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours // 60}:{hours % 60}:{minutes}:{seconds}"
    parts = text.split(":")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        collected.problems.append(f"{key.name} is {key.value!r}: expected DAYS:HOURS:MINUTES:SECONDS, such as 00:02:30:00")
        return
    days, hours, minutes, seconds = map(int, parts)
    collected.set(setting, days * 24 + hours + minutes / 60 + seconds / 3600, key.name)


def _leave_out_image_log(key: Key | None, collected: Collected) -> None:
    """Switch the image log off; this overrides its other keys, whatever their order."""
    if key is not None and truth(key.value, key.name, collected):
        collected.set("output.image_log_steps", 0, key.name)
        collected.values.pop("output.image_log_pictures", None)


def _elsewhere(setting: str, key: Key, collected: Collected) -> None:
    """Nothing to do: code that sees more than this key handles it."""


_CONVERTERS: Mapping[str, Callable[[str, Key, Collected], None]] = {
    "loop.ema_decay": _ema_decay,
    "views.crop": _crop,
    "memory.precision": _precision,
    "optimizer.max_gradient_norm": _gradient_norm,
    "loop.max_train_hours": _hours,
    "image_log": _elsewhere,
    "gpus": _elsewhere,
    "coarse_class_text": _elsewhere,
}
