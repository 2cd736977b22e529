"""The first generation of `main.py`: every option and every key has the effect that the documentation promises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreambooth.compat.arguments import read_arguments
from dreambooth.compat.config_keys import _RULES, TRAINER, TRAINER_OPTIONS, rule_of
from dreambooth.compat.earlier import earlier_job
from dreambooth.compat.training_flags import EARLIER_ONLY, FLAGS, LATER_ONLY
from dreambooth.compat.translation import Job
from dreambooth.errors import SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.original_config import contradictions

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "configs" / "stable-diffusion" / "v1-finetune_unfrozen.yaml"
V2 = ROOT / "tests" / "golden" / "v2" / "v2-mini.yaml"
STARTED = "2026-01-31T12-00-00"
USUAL = ("-t", "--actual_resume", "model.ckpt", "--data_root", "photos/rex", "--reg_data_root", "regs", "--class_word", "cat")


def job(*arguments: str, usual: Sequence[str] = USUAL) -> Job:
    return earlier_job(read_arguments("python main.py", "", FLAGS, [*usual, *arguments]), started=STARTED)


def at(job: Job, path: str) -> Any:
    value: Any = job.settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def problems(*arguments: str, usual: Sequence[str] = USUAL) -> str:
    with pytest.raises(SettingsError) as caught:
        job(*arguments, usual=usual)
    return caught.value.text


def without(option: str) -> list[str]:
    place = USUAL.index(option)
    return [*USUAL[:place], *USUAL[place + 2 :]]


def test_the_command_of_the_readme_is_the_original_run() -> None:
    made = job("--base", str(SHIPPED), "-n", "job", "--gpus", "0,")
    expected = {
        "base.model": "model.ckpt",
        "base.weights": "raw",
        "subject.photos": Path("photos/rex"),
        "subject.class_word": "cat",
        "subject.token": "sks",
        "subject.instance_prompt": "photo of a {token} {class_word}",
        "subject.captions": "prompt",
        "subject.allow_silent_token": True,  # the original never looked
        "views.resolution": 512,
        "views.crop": "squash",
        "views.flip_probability": 0.5,
        "views.prior_flip_probability": None,
        "prior.prior_images": Path("regs"),
        "prior.prior_weight": 1.0,
        "prior.original_pairing": False,
        "trainee.train_text_encoder": True,
        "optimizer.optimizer": "adamw",
        "optimizer.learning_rate": 1e-6,
        "optimizer.learning_rate_schedule": "constant",
        "optimizer.weight_decay": 0.01,
        "optimizer.max_gradient_norm": None,
        "loop.steps": 800,
        "loop.batch_size": 1,
        "loop.gradient_accumulation": 1,
        "loop.min_snr_gamma": None,
        "loop.ema_decay": None,
        "loop.seed": 23,
        "loop.device": "cuda:0",
        "memory.precision": "fp32",
        "output.output": Path("logs/rex2026-01-31T12-00-00_job"),
        "output.file_layout": "xavierxiao",
        "output.checkpoint_steps": 500,
        "output.keep_checkpoints": 1,
        "output.model_dtype": "float32",
        "output.image_log_steps": 500,
        "output.image_log_pictures": 8,
        "output.preview_steps": 0,
    }
    assert {path: at(made, path) for path in expected} == expected
    assert made.notes == (
        "Photos and class images are shuffled separately, and each is used equally often; "
        "--original-pairing pairs them as the original did, where the repeats matter",
    )


OPTIONS: dict[str, tuple[list[str], str, Any]] = {
    "seed": (["-s", "7"], "loop.seed", 7),
    "token": (["--token", "effy"], "subject.token", "effy"),
    "max_training_steps": (["--max_training_steps", "30"], "loop.steps", 30),
    "max_steps": (["--max_steps", "40"], "loop.steps", 40),
    "accumulate_grad_batches": (["--accumulate_grad_batches", "3"], "loop.gradient_accumulation", 3),
    "flip_p": (["--flip_p", "0.0"], "views.flip_probability", 0.0),
    "original-pairing": (["--original-pairing"], "prior.original_pairing", True),
    "name": (["-n", "job"], "output.output", Path(f"logs/rex{STARTED}_job")),
    "postfix": (["-n", "job", "-f", "_2"], "output.output", Path(f"logs/rex{STARTED}_job_2")),
    "logdir": (["-l", "elsewhere"], "output.output", Path(f"elsewhere/rex{STARTED}")),
    "datadir_in_name": (["--datadir_in_name", "False"], "output.output", Path(f"logs/{STARTED}")),
    "base": (["-b", str(SHIPPED)], "output.output", Path(f"logs/rex{STARTED}_v1-finetune_unfrozen")),
    "gpus": (["--gpus", "1,"], "loop.device", "cuda:1"),
    "scale_lr": (["--scale_lr", "True", "data.params.batch_size=2"], "optimizer.learning_rate", 2e-6),
    "actual_resume": ([], "base.model", "model.ckpt"),
    "data_root": ([], "subject.photos", Path("photos/rex")),
    "reg_data_root": ([], "prior.prior_images", Path("regs")),
    "class_word": ([], "subject.class_word", "cat"),
}
ELSEWHERE = {"train", "resume", "debug", "token_only"}  # tests of their own below and in test_main.py
WITHOUT_EFFECT = {"project", "embedding_manager_ckpt", "init_word", "init_words"}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_its_effect(option: str) -> None:
    arguments, path, value = OPTIONS[option]
    assert at(job(*arguments), path) == value


def test_no_option_is_left_out_of_these_tests() -> None:
    tested = OPTIONS.keys() | ELSEWHERE | WITHOUT_EFFECT | {"no-test"}
    assert {flag.name for flag in FLAGS} - LATER_ONLY == tested
    assert tested >= EARLIER_ONLY


@pytest.mark.parametrize("option", sorted(WITHOUT_EFFECT))
def test_an_option_that_had_no_effect_is_said_to_have_none(option: str) -> None:
    made = job(f"--{option}", "x")
    assert f"Ignored, because these had no effect in the original either: --{option}" in made.notes
    assert made.settings == job().settings


def test_there_is_no_test_stage_to_leave_out() -> None:
    assert job("--no-test").settings == job().settings == job("--no-test", "True").settings


def test_without_train_nothing_is_trained() -> None:
    usual = USUAL[1:]
    assert "nothing is trained without -t; add -t" in problems(usual=usual)
    assert "nothing is trained without -t" in problems("-t", "False", usual=usual)
    assert "--train is 'perhaps': expected true or false" in problems("-t", "perhaps", usual=usual)


KEYS: dict[str, tuple[Any, str, Any]] = {
    "model.base_learning_rate": ("5e-6", "optimizer.learning_rate", 5e-6),
    "model.params.reg_weight": ("0.5", "prior.prior_weight", 0.5),
    "model.params.cond_stage_trainable": ("false", "trainee.train_text_encoder", False),
    "model.params.use_ema": ("true", "loop.ema_decay", 0.9999),
    "data.params.batch_size": ("2", "loop.batch_size", 2),
    "data.params.train.params.size": ("64", "views.resolution", 64),
    "data.params.train.params.flip_p": ("0.25", "views.flip_probability", 0.25),
    "data.params.train.params.center_crop": ("true", "views.crop", "center"),
    "data.params.train.params.data_root": ("other", "subject.photos", Path("other")),
    "data.params.train.params.placeholder_token": ("fox", "subject.class_word", "fox"),
    "data.params.train.params.coarse_class_text": ("furry", "subject.class_word", "furry cat"),
    "data.params.reg.params.flip_p": ("0.75", "views.prior_flip_probability", 0.75),
    "data.params.reg.params.data_root": ("others", "prior.prior_images", Path("others")),
    "lightning.modelcheckpoint.params.every_n_train_steps": ("250", "output.checkpoint_steps", 250),
    "lightning.callbacks.image_logger.params.batch_frequency": ("100", "output.image_log_steps", 100),
    "lightning.callbacks.image_logger.params.max_images": ("4", "output.image_log_pictures", 4),
    "lightning.callbacks.image_logger.params.disabled": ("true", "output.image_log_steps", 0),
    "lightning.callbacks.metrics_over_trainsteps_checkpoint.params.every_n_train_steps": ("100", "output.model_steps", 100),
    f"{TRAINER}gpus": ("[1]", "loop.device", "cuda:1"),
    f"{TRAINER}max_steps": ("50", "loop.steps", 50),
    f"{TRAINER}accumulate_grad_batches": ("2", "loop.gradient_accumulation", 2),
    f"{TRAINER}precision": ("16", "memory.precision", "fp16-mixed"),
    f"{TRAINER}gradient_clip_val": ("1.5", "optimizer.max_gradient_norm", 1.5),
    f"{TRAINER}max_time": ("01:02:30:00", "loop.max_train_hours", 26.5),
}
_OPTION_OF = {"data_root": "--data_root", "placeholder_token": "--class_word"}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_has_its_effect(key: str) -> None:
    text, path, value = KEYS[key]
    option = "--reg_data_root" if key == "data.params.reg.params.data_root" else _OPTION_OF.get(key.rpartition(".")[2])
    usual = USUAL if option is None else without(option)  # an option beats the key that it stands for
    assert at(job(f"{key}={text}", usual=usual), path) == value


def test_no_key_is_left_out_of_these_tests() -> None:
    settings = {key for key, rule in _RULES.items() if rule.kind == "sets"}
    repeats = {"data.params.train.params.repeats", "data.params.reg.params.repeats"}
    assert settings == KEYS.keys() | repeats


def test_repeats_count_with_the_original_pairing_alone() -> None:
    repeats = ("data.params.train.params.repeats=7", "data.params.reg.params.repeats=3")
    assert job(*repeats).settings == job().settings
    paired = job(*repeats, "--original-pairing")
    assert (at(paired, "prior.photo_repeats"), at(paired, "prior.prior_repeats")) == (7, 3)
    assert paired.notes == ()


@pytest.mark.parametrize("text", ["1:00:00:00", "01:00:00:00", "10:00:00:00"])
def test_times_are_read_although_yaml_takes_some_for_numbers(text: str) -> None:
    hours = 24 * int(text.partition(":")[0])
    assert at(job("--max_time", text), "loop.max_train_hours") == hours
    assert at(job(f"lightning.trainer.max_time={text}"), "loop.max_train_hours") == hours


def test_the_image_log_may_be_switched_off() -> None:
    keys = [
        f"lightning.callbacks.image_logger.params.{key}" for key in ("disabled=true", "batch_frequency=100", "max_images=2")
    ]
    assert at(job(*keys), "output.image_log_steps") == 0
    assert at(job(*keys[1:], keys[0].replace("true", "false")), "output.image_log_steps") == 100


def test_what_describes_the_model_is_held_against_it(miniature: StableDiffusion1) -> None:
    structure = [key for key, rule in _RULES.items() if rule.kind == "structure"]
    assert len(structure) > 20
    for key in structure:
        wrong = "OpenCLIP" if key.endswith("target") else "something else"
        assert len(contradictions({key: wrong}, miniature)) == 1, key


@pytest.mark.parametrize(("text", "precision"), [("16", "fp16-mixed"), ("32", "fp32"), ("bf16", "bf16-mixed")])
def test_precisions(text: str, precision: str) -> None:
    assert at(job("--precision", text), "memory.precision") == precision


def test_options_of_the_training_library_are_keys() -> None:
    assert at(job("--gradient_clip_val", "2"), "optimizer.max_gradient_norm") == 2
    assert at(job("--gradient_clip_val=0"), "optimizer.max_gradient_norm") is None
    assert (
        "Ignored, because they are not needed here: lightning.trainer.benchmark, lightning.trainer.profiler"
        in job("--benchmark", "True", "--profiler", "simple").notes
    )
    assert "--max_epochs is 3, which is not supported. The length of training is a number of steps" in problems(
        "--max_epochs", "3"
    )
    assert "--num_nodes is 2: expected 1; nothing else is supported" in problems("--num_nodes", "2")
    assert "--accelerator is 'cpu': expected gpu or ddp or auto" in problems("--accelerator", "cpu")
    assert all(rule_of(f"{TRAINER}{name}") is not None for name in TRAINER_OPTIONS)


def test_files_are_merged_then_overrides_then_options(tmp_path: Path) -> None:
    files = []
    for number, steps in enumerate((10, 20)):
        files.append(tmp_path / f"{number}.yaml")
        content = {"lightning": {"trainer": {"max_steps": steps}}, "model": {"base_learning_rate": 10.0 ** -(number + 5)}}
        files[-1].write_text(yaml.safe_dump(content if number == 0 else {"lightning": content["lightning"]}))
    bases = ("-b", *map(str, files))
    assert (at(job(*bases), "loop.steps"), at(job(*bases), "optimizer.learning_rate")) == (20, 1e-5)
    assert at(job(*bases, "lightning.trainer.max_steps=30"), "loop.steps") == 30
    assert at(job("lightning.trainer.max_steps=30", *bases), "loop.steps") == 30
    assert at(job(*bases, "lightning.trainer.max_steps=30", "--max_steps", "40"), "loop.steps") == 40


def test_the_original_yaml_says_what_has_no_effect_in_two_lines(tmp_path: Path) -> None:
    content = {
        "model": {
            "base_learning_rate": 1e-6,
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": 0.00085,
                "log_every_t": 200,
                "embedding_reg_weight": 0.0,
                "unfreeze_model": True,
                "model_lr": 1e-6,
                "personalization_config": {"target": "x", "params": {"placeholder_strings": ["*"], "num_vectors_per_token": 1}},
                "unet_config": {"target": "x", "params": {"image_size": 32, "model_channels": 320, "use_checkpoint": True}},
                "first_stage_config": {
                    "target": "x",
                    "params": {"embed_dim": 4, "ddconfig": {"ch": 128}, "lossconfig": {"target": "x"}},
                },
                "cond_stage_config": {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"},
            },
        },
        "data": {
            "target": "main.DataModuleFromConfig",
            "params": {
                "num_workers": 2,
                "wrap": False,
                "train": {"target": "x", "params": {"size": 512, "set": "train", "per_image_tokens": False, "repeats": 100}},
                "reg": {"target": "x", "params": {"size": 512, "set": "train", "reg": True, "repeats": 10}},
                "validation": {"target": "x", "params": {"size": 512, "set": "val", "repeats": 10}},
            },
        },
        "lightning": {
            "modelcheckpoint": {"params": {"every_n_train_steps": 500}},
            "callbacks": {"image_logger": {"target": "x", "params": {"batch_frequency": 500, "increase_log_steps": False}}},
            "trainer": {"benchmark": True, "max_steps": 800},
        },
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    made = job("-b", str(path))
    idle, unneeded, _ = made.notes
    assert idle == (
        "Ignored, because these had no effect in the original either: model.params.embedding_reg_weight, "
        "model.params.model_lr, model.params.personalization_config.params.placeholder_strings, "
        "model.params.personalization_config.params.num_vectors_per_token"
    )
    assert unneeded.startswith(
        "Ignored, because they are not needed here: model.params.log_every_t, model.params.unet_config.params.image_size, "
    )
    assert "target" not in unneeded
    assert {name: key.value for name, key in made.structure.items()} == {
        "model.params.linear_start": 0.00085,
        "model.params.unet_config.params.model_channels": 320,
        "model.params.first_stage_config.params.embed_dim": 4,
        "model.params.first_stage_config.params.ddconfig.ch": 128,
        "model.params.cond_stage_config.target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
    }
    written = {name: yaml.safe_load(text) for name, text in made.beside.items()}
    assert list(written) == [f"configs/rex{STARTED}-project.yaml", f"configs/rex{STARTED}-lightning.yaml"]
    project, lightning = written.values()
    assert project["model"] == content["model"] and list(project) == ["model", "data"]
    assert lightning["lightning"]["trainer"] == {"benchmark": True, "max_steps": 800}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--acumulate_grad_batches", "2"], "unknown option --acumulate_grad_batches; did you mean --accumulate_grad_batches?"),
        (["--xyzzy"], "unknown option --xyzzy"),
        (["model.params.reg_wieght=1"], "unknown key model.params.reg_wieght; did you mean model.params.reg_weight?"),
        (["reg_weight=1"], "unknown key reg_weight; did you mean model.params.reg_weight?"),
        (["stray"], "unexpected argument 'stray'; write an override as KEY=VALUE, such as data.params.batch_size=2"),
        (["data.params.batch_size=two"], "data.params.batch_size is 'two': expected a whole number"),
        (["--max_steps", "0"], "--max_steps is '0': expected at least 1"),
        (["--gpus", "all"], "--gpus is 'all': expected GPU numbers, such as 0 or 0,1"),
        (["--gpus", ","], "--gpus is ',': expected GPU numbers, such as 0 or 0,1"),
        (["--precision", "64"], "--precision is 64: expected 16, 32 or bf16"),
        (["--max_time", "2h"], "--max_time is '2h': expected DAYS:HOURS:MINUTES:SECONDS, such as 00:02:30:00"),
        (["-b", "no.yaml"], "no.yaml: no such settings file"),
        (["model.params.unfreeze_model=false"], "model.params.unfreeze_model is False: expected True"),
        (["data.params.train.params.interpolation=lanczos"], "interpolation is 'lanczos': expected bicubic"),
        (
            ["data.params.reg.params.size=256"],
            "data.params.reg.params.size is 256 and data.params.train.params.size is missing: expected the same value for both",
        ),
        (["=3"], "unexpected argument '=3'; write an override as KEY=VALUE"),
        (["lightning=3"], "lightning is 3: expected a section of keys"),
        (["data.params.batch_size=yes"], "data.params.batch_size is true: expected a number or text"),
        (["--gpus", "0,0"], "--gpus is '0,0', which lists a GPU twice"),
        (
            ["model.params.scheduler_config.params.warm_up_steps=[10]"],
            "Remove it; `dreambooth train --warmup-steps N` supports warm-up.",
        ),
        (["--max_steps", "5", "--max_training_steps", "7"], "--max_steps and --max_training_steps mean the same"),
        (["lightning.callbacks.image_logger.params.log_images_kwargs.N=2"], "always uses 200 DDIM steps"),
        (["--token_only"], "--token_only trains without a class, so --class_word, --reg_data_root would have no effect"),
        (["-n", "job", "-r", "logs/x"], ""),
    ],
)
def test_a_mistake_is_told_with_the_way_out(arguments: list[str], message: str) -> None:
    if "-r" in arguments:
        assert job(*arguments).problems == (
            "--name names a new log folder and --resume continues in an existing one; use only one of them",
        )
        return
    found = problems(*arguments)
    assert message in found
    assert found.endswith("See `python main.py --help`; docs/reference/from-the-original.md explains each option and key.")


def test_a_mistake_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lightning:\nmodel: {parms: 1}\ndata: {params: {reg: {params: {size: 64}}}}\n")
    found = problems("-b", str(path), "data.params.train.params.size=128")
    assert f"{path}: unknown key model.parms" in found
    same = "data.params.reg.params.size is 64 and data.params.train.params.size is 128: expected the same value for both"
    assert f"{path}: {same}" in found
    assert "unknown key lightning" not in found


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lightning:\n# trainer: {max_steps: 5}\n")
    assert job("-b", str(path)).settings == job("-n", "mine").settings


def test_names_stay_in_their_folder() -> None:
    assert at(job("-n", "a/b", "-f", "\\c"), "output.output") == Path(f"logs/rex{STARTED}_a-b-c")


def test_pairing_takes_nothing_that_follows() -> None:
    assert at(job("--original-pairing", "data.params.batch_size=2"), "loop.batch_size") == 2
    assert at(job("--gpus", "[1]"), "loop.device") == "cuda:1"


def test_all_mistakes_are_told_together() -> None:
    found = problems("--max_steps", "x", "no.key=1", "--xyzzy", usual=["--data_root", "photos"])
    for message in (
        "--max_steps is 'x'",
        "unknown key no.key",
        "unknown option --xyzzy",
        "--actual_resume is missing",
        "add -t",
    ):
        assert message in found


def test_without_a_class_word_it_is_dog_and_without_class_images_they_are_made() -> None:
    made = job(usual=["-t", "--actual_resume", "m.ckpt", "--data_root", "p"])
    assert at(made, "subject.class_word") == "dog"
    assert "--class_word is missing, so the class word is dog, as in the original" in made.notes
    assert at(made, "prior.prior_images") is None and at(made, "prior.prior_weight") == 1
    assert at(made, "prior.num_prior_images") == 200


def test_an_empty_class_word_is_no_way_to_leave_it_out() -> None:
    found = problems("--class_word", "", usual=without("--class_word"))
    assert "--class_word is empty; to name the subject by the token alone, use --token_only" in found


def test_an_empty_text_leaves_an_option_out() -> None:
    made = job("--reg_data_root", "", usual=without("--reg_data_root"))
    assert (at(made, "prior.prior_images"), at(made, "prior.num_prior_images")) == (None, 200)


def test_a_run_that_goes_on_is_held_to_what_is_typed_and_not_to_what_follows_from_it() -> None:
    usual = ("-r", "logs/x", "--gpus", "0,1", "--scale_lr", "True", "--token", "effy", "--class_word", "dog", "--flip_p", "0.1")
    made = job(usual=usual)
    assert made.problems == () and made.settings is None
    assert made.said == {
        "subject.token": "effy",
        "subject.class_word": "dog",
        "views.flip_probability": "0.1",
    }
    assert job("data.params.batch_size=2", usual=usual).said["loop.batch_size"] == 4


def test_a_token_brings_captions_from_names() -> None:
    made = job("--token", "effy")
    assert at(made, "subject.captions") == "filename"
    made = job("--token", "effy", usual=without("--reg_data_root"))
    assert at(made, "prior.class_prompt") == "{class_word}"


def test_the_token_alone() -> None:
    made = job("--token", "effy", "--token_only", usual=["-t", "--actual_resume", "m.ckpt", "--data_root", "p"])
    assert (at(made, "subject.class_word"), at(made, "prior.prior_weight")) == ("", 0)


def test_flips_of_class_images_stay_when_those_of_photos_change() -> None:
    assert at(job("--flip_p", "0.0"), "views.prior_flip_probability") == 0.5


def test_class_images_without_weight_are_left_out_although_they_had_to_be_named() -> None:
    made = job("model.params.reg_weight=0", "--flip_p", "0.2", "data.params.reg.params.flip_p=0.1")
    assert (at(made, "prior.prior_images"), at(made, "views.prior_flip_probability")) == (None, None)
    assert "Class images are ignored, because their weight is 0" in made.notes


def test_several_gpus_share_a_larger_step() -> None:
    made = job("--gpus", "0,1", "data.params.batch_size=2")
    assert made.gpus == (0, 1)
    assert (at(made, "loop.batch_size"), at(made, "loop.device")) == (4, None)
    scaled = job("--gpus", "0,1", "--scale_lr", "True", "--accumulate_grad_batches", "3", "data.params.batch_size=2")
    assert at(scaled, "optimizer.learning_rate") == pytest.approx(3 * 2 * 2 * 1e-6)
    assert "Learning rate: 1.2e-05 = 1e-06 x 3 (accumulation) x 2 (GPUs) x 2 (batch)" in scaled.notes


def test_scaling_has_to_be_asked_for_in_words() -> None:
    assert at(job("data.params.batch_size=2", "--scale_lr"), "optimizer.learning_rate") == 1e-6


def test_the_shipped_yaml_needs_no_remark_and_is_all_of_known_keys() -> None:
    assert len(job("-b", str(SHIPPED)).notes) == 1


@pytest.mark.parametrize("switch", ["--no-test", "--debug", "-d", "-t", "--train", "--datadir_in_name"])
def test_a_switch_does_not_swallow_the_key_that_follows(switch: str) -> None:
    key = "model.base_learning_rate=3e-6"
    usual = [argument for argument in USUAL if argument != "-t"]
    before = [] if switch in ("-t", "--train") else ["-t"]
    assert at(job(*before, switch, key, usual=usual), "optimizer.learning_rate") == 3e-6
    assert at(job(*before, switch, "True", key, usual=usual), "optimizer.learning_rate") == 3e-6


@pytest.mark.parametrize("word", ["stray", "configs/other.yaml"])
def test_a_switch_without_effect_swallows_no_other_word_either(word: str) -> None:
    assert problems("--no-test", word).startswith(f"--no-test is {word!r}: expected true or false")
    assert job("--no-test", "True").problems == ()


def test_rules_of_the_settings_name_the_options_of_this_program() -> None:
    usual = ("-t", "--actual_resume", "model.ckpt", "--data_root", "photos/rex")
    text = problems("data.params.train.params.placeholder_token=''", usual=usual)
    assert "--reg_data_root FOLDER" in text and "a --class_word" in text
    assert "--prior-images" not in text and "--class-word" not in text


def test_the_yaml_says_what_the_model_predicts() -> None:
    assert at(job(), "base.prediction") == "auto"
    assert at(job("model.params.parameterization=eps"), "base.prediction") == "auto"
    assert at(job("model.params.parameterization=v"), "base.prediction") == "velocity"


def test_the_yaml_of_a_stable_diffusion_2_is_accepted(
    golden_v2: ModelWeights, miniature: StableDiffusion1, tmp_path: Path
) -> None:
    """Its model section in place of the shipped one: the model predicts what the YAML says, and its structure is compared."""
    shipped, other = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (SHIPPED, V2))
    model = {**shipped["model"], "params": {**shipped["model"]["params"], **other["model"]["params"]}}
    (tmp_path / "v2.yaml").write_text(yaml.safe_dump({**shipped, "model": model}), encoding="utf-8")
    made = job("--base", str(tmp_path / "v2.yaml"))
    assert at(made, "base.prediction") == "velocity"
    structure = {name: key.value for name, key in made.structure.items()}
    assert contradictions(structure, golden_v2.family) == []
    assert len(contradictions(structure, miniature)) >= 2  # the text encoder and the width of the heads, at least
