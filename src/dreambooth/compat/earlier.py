"""The first generation of `main.py`: YAML files, then dotted overrides, then options; later ones win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreambooth.compat.arguments import Given, unknown_option
from dreambooth.compat.config_keys import TRAINER, TRAINER_OPTIONS, rule_of
from dreambooth.compat.config_values import translate_keys
from dreambooth.compat.training_flags import FLAGS
from dreambooth.compat.translation import Collected, Job, Key, settings_of, truth, without_slashes
from dreambooth.config import read_yaml, yaml_text, yaml_value
from dreambooth.errors import SettingsError
from dreambooth.schema.layers import nested
from dreambooth.weights.original_config import flat_entries

__all__ = ["earlier_job"]

_BATCH_SIZE = "data.params.batch_size"
_PARAMETERIZATION = "model.params.parameterization"
_COARSE_CLASS = "data.params.train.params.coarse_class_text"
_KEYS = {  # options that set a key
    "gpus": f"{TRAINER}gpus",
    "max_steps": f"{TRAINER}max_steps",
    "max_training_steps": f"{TRAINER}max_steps",
    "accumulate_grad_batches": f"{TRAINER}accumulate_grad_batches",
    "flip_p": "data.params.train.params.flip_p",
    "data_root": "data.params.train.params.data_root",
    "reg_data_root": "data.params.reg.params.data_root",
    "class_word": "data.params.train.params.placeholder_token",
}
_SETTINGS = {"seed": "loop.seed", "actual_resume": "base.model", "token": "subject.token"}
_WITHOUT_EFFECT = ("project", "embedding_manager_ckpt", "init_word", "init_words")


def earlier_job(given: Given, *, started: str) -> Job:
    """Translate the command line into a job. `started` is the time in the log folder's name.

    Raises SettingsError with all problems: unknown keys and options with the nearest name, and every value that the settings
    schema rejects.
    """
    collected = Collected()
    keys = _keys(given, collected)
    gpus = _gpus(keys.get(f"{TRAINER}gpus"), collected)
    translate_keys(keys, collected)
    _prediction(keys, collected)
    _translate_options(given, collected)
    if len(gpus) == 1:
        collected.set("loop.device", f"cuda:{gpus[0]}", keys[f"{TRAINER}gpus"].name)
    said = _said(given, collected, num_gpus=max(1, len(gpus)))
    now, folder = _log_folder(given, started, collected)
    if "resume" not in given.values:
        _class_words(given, keys, collected)
        _leave_out_what_is_off(collected)
        _scale(given, collected, num_gpus=max(1, len(gpus)))
        _defaults(collected)
    collected.values["output.output"] = str(folder)
    return Job(
        settings=None if "resume" in given.values else settings_of(collected, is_later=False),
        said=said,
        is_debug=truth(given.values.get("debug", "false"), "--debug", collected),
        problems=tuple(collected.problems),
        notes=tuple(collected.notes),
        gpus=gpus,
        beside=_config_files(now, keys),
        structure={name: key for name, key in keys.items() if (rule := rule_of(name)) and rule.kind == "structure"},
    )


def _prediction(keys: Mapping[str, Key], collected: Collected) -> None:
    """What the model predicts is part of its structure, and the one part that reading it needs to be told."""
    key = keys.get(_PARAMETERIZATION)
    if key is not None and key.value == "v":
        collected.set("base.prediction", "velocity", key.name)


def _keys(given: Given, collected: Collected) -> dict[str, Key]:
    """Every key of the files; dotted overrides replace these, and options that set a key replace both."""
    keys: dict[str, Key] = {}
    listed = given.lists.get("base", ())  # the option takes all arguments that follow, including overrides
    overrides = [entry for entry in listed if "=" in entry and not Path(entry).exists()]
    for file in (entry for entry in listed if entry not in overrides):
        try:
            keys |= {name: Key(value, f"{file}: {name}") for name, value in flat_entries(read_yaml(Path(file)))}
        except SettingsError as error:
            collected.problems += error.problems
    for argument in (*overrides, *_take_trainer_options(given.rest, keys)):
        name, is_override, text = argument.partition("=")
        if argument.startswith("-"):
            collected.problems.append(unknown_option(argument, FLAGS, more=TRAINER_OPTIONS))
        elif not is_override or not name:
            example = f"write an override as KEY=VALUE, such as {_BATCH_SIZE}=2"
            collected.problems.append(f"unexpected argument {argument!r}; {example}")
        else:
            keys[name] = Key(yaml_value(text), name)
    if {"max_steps", "max_training_steps"} <= given.values.keys():
        collected.problems.append("--max_steps and --max_training_steps mean the same; use only one")
    for option, key in _KEYS.items():
        if given.values.get(option):  # scripts pass an empty value to omit an option
            keys[key] = Key(given.values[option], f"--{option}")
    return keys


def _take_trainer_options(rest: Sequence[str], keys: dict[str, Key]) -> list[str]:
    """Move the training library's options from `rest`, the arguments unknown to `main.py`, into `keys`; returns the others."""
    left, arguments = list[str](), list(rest)
    while arguments:
        argument = arguments.pop(0)
        name, has_value, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in TRAINER_OPTIONS:
            left.append(argument)
            continue
        if not has_value:
            is_bare = not arguments or arguments[0].startswith("--")
            text = "true" if is_bare else arguments.pop(0)
        keys[f"{TRAINER}{name}"] = Key(yaml_value(text), f"--{name}")
    return left


def _gpus(key: Key | None, collected: Collected) -> tuple[int, ...]:
    """Numbers of GPUs; empty when the key is missing: training then uses the first GPU, or the CPU."""
    if key is None or key.value in (None, ""):
        return ()
    listed = key.value if isinstance(key.value, list) else str(key.value).strip("[] ").split(",")
    numbers = [str(number).strip() for number in listed if str(number).strip()]
    if len(set(numbers)) < len(numbers):
        collected.problems.append(f"{key.name} is {str(key.value)!r}, which lists a GPU twice")
        return ()
    if not numbers or not all(number.isdecimal() for number in numbers):
        collected.problems.append(f"{key.name} is {str(key.value)!r}: expected GPU numbers, such as 0 or 0,1")
        return ()
    return tuple(int(number) for number in numbers)


def _translate_options(given: Given, collected: Collected) -> None:
    options = given.values
    for option, setting in _SETTINGS.items():
        if options.get(option):
            collected.set(setting, options[option], f"--{option}")
    if not truth(options.get("train", "false"), "--train", collected) and "resume" not in options:
        collected.problems.append("nothing is trained without -t; add -t")
    truth(options.get("no-test", "true"), "--no-test", collected)  # a stray word behind it is not to be lost
    if options.get("class_word") == "":
        collected.problems.append("--class_word is empty; to name the subject by the token alone, use --token_only")
    if "name" in options and "resume" in options:
        collected.problems.append(
            "--name names a new log folder and --resume continues in an existing one; use only one of them"
        )
    if idle := [f"--{option}" for option in _WITHOUT_EFFECT if option in options]:
        collected.notes.append(f"Ignored, because these had no effect in the original either: {', '.join(idle)}")
    if truth(options.get("token_only", "false"), "--token_only", collected):
        named = [collected.names[path] for path in ("subject.class_word", "prior.prior_images") if path in collected.values]
        if named:
            collected.problems.append(f"--token_only trains without a class, so {', '.join(named)} would have no effect")
        collected.set("subject.class_word", "", "--token_only")
        collected.set("prior.prior_weight", 0.0, "--token_only")
    if truth(options.get("original-pairing", "false"), "--original-pairing", collected):
        collected.set("prior.original_pairing", True, "--original-pairing")
        return
    # Repeats only set the length of an epoch; which images are paired depends on it only in the original pairing.
    for setting in ("prior.photo_repeats", "prior.prior_repeats"):
        collected.values.pop(setting, None)
    if "resume" not in options:
        collected.notes.append(
            "Photos and class images are shuffled separately, and each is used equally often; "
            "--original-pairing pairs them as the original did, where the repeats matter"
        )


def _said(given: Given, collected: Collected, *, num_gpus: int) -> dict[str, Any]:
    """The settings that were typed, for a resumed run; derived settings come from the run itself."""
    said = dict(collected.values)
    if (batch_size := _whole(said.get("loop.batch_size"))) is not None:
        said["loop.batch_size"] = num_gpus * batch_size
    if "scale_lr" in given.values:
        said.pop("optimizer.learning_rate", None)
    return said


def _class_words(given: Given, keys: Mapping[str, Key], collected: Collected) -> None:
    """Set the class word, and take captions from file names when a token is given, as the original did."""
    if "subject.class_word" not in collected.values:
        collected.values["subject.class_word"] = "dog"
        collected.notes.append("--class_word is missing, so the class word is dog, as in the original")
    coarse = keys.get(_COARSE_CLASS)
    if coarse is not None and coarse.value:
        collected.values["subject.class_word"] = f"{coarse.value} {collected.values['subject.class_word']}".strip()
    if "token" in given.values:
        collected.set("subject.captions", "filename", "--token")
        if collected.values.get("subject.class_word") and "prior.prior_images" not in collected.values:
            collected.set("prior.class_prompt", "{class_word}", "--token")
    if "views.flip_probability" in collected.values and collected.has_priors():  # it applied to the photos only
        collected.default("views.prior_flip_probability", 0.5)


def _leave_out_what_is_off(collected: Collected) -> None:
    """Drop settings of class images when their weight is 0; the original required their folder even then."""
    if collected.has_priors():
        return
    silenced = ("prior.prior_images", "prior.class_prompt", "views.prior_flip_probability")
    dropped = [setting for setting in silenced if collected.values.pop(setting, None) is not None]
    if dropped:
        collected.notes.append("Class images are ignored, because their weight is 0")


def _scale(given: Given, collected: Collected, *, num_gpus: int) -> None:
    """`batch_size` counts photos on each GPU; `--scale_lr True` multiplies the learning rate by all photos of a step."""
    batch_size = _whole(collected.values.get("loop.batch_size", 1))
    accumulation = _whole(collected.values.get("loop.gradient_accumulation", 1))
    if num_gpus > 1 and batch_size is not None:
        collected.set("loop.batch_size", num_gpus * batch_size, _BATCH_SIZE)
    if not truth(given.values.get("scale_lr", "false"), "--scale_lr", collected):
        return
    try:
        rate = float(collected.values.get("optimizer.learning_rate", 1e-6))
    except (TypeError, ValueError):
        return  # the schema reports the problem
    if batch_size is not None and accumulation is not None:
        scaled = accumulation * num_gpus * batch_size * rate
        collected.set("optimizer.learning_rate", scaled, "--scale_lr")
        collected.notes.append(
            f"Learning rate: {scaled:g} = {rate:g} x {accumulation} (accumulation) x {num_gpus} (GPUs) x {batch_size} (batch)"
        )


def _whole(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() else None  # the schema rejects anything else


def _log_folder(given: Given, started: str, collected: Collected) -> tuple[str, Path]:
    """The prefix of file names (name of the photos' folder, then the time), and the log folder."""
    options, bases = given.values, given.lists.get("base", ())
    name = without_slashes(options.get("name") or (Path(bases[0]).stem if bases else ""))
    has_prefix = truth(options.get("datadir_in_name", "true"), "--datadir_in_name", collected)
    now = f"{Path(str(collected.values.get('subject.photos', ''))).name if has_prefix else ''}{started}"
    return now, Path(
        options.get("logdir", "logs")
    ) / f"{now}{f'_{name}' if name else ''}{without_slashes(options.get('postfix', ''))}"


def _config_files(now: str, keys: Mapping[str, Key]) -> dict[str, str]:
    """The merged configuration under the original keys, in the two files that the original wrote."""
    tree = nested({name: key.value for name, key in keys.items()})
    lightning = tree.pop("lightning", {})
    return {
        f"configs/{now}-project.yaml": yaml_text(tree),
        f"configs/{now}-lightning.yaml": yaml_text({"lightning": lightning}),
    }


def _defaults(collected: Collected) -> None:
    """Set the original program's defaults."""
    for setting, value in {
        "base.weights": "raw",
        "loop.steps": 800,
        "output.file_layout": "xavierxiao",
        "output.checkpoint_steps": 500,
        "output.keep_checkpoints": 1,  # each is 12 GB at full size; all models are kept
        "output.image_log_steps": 500,
    }.items():
        collected.default(setting, value)
    for setting, name in {"base.model": "--actual_resume", "subject.photos": "--data_root"}.items():
        collected.names.setdefault(setting, name)
