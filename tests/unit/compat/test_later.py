"""The second generation of `main.py`: options, and the JSON file of schema 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreambooth.compat.arguments import read_arguments
from dreambooth.compat.later import _JSON, later_job
from dreambooth.compat.main import read_job
from dreambooth.compat.training_flags import FLAGS, LATER_ONLY
from dreambooth.compat.translation import Job
from dreambooth.errors import SettingsError

STARTED = "2026-01-31T12-00-00"
USUAL = (
    *("--project_name", "my job", "--training_model", "model.ckpt", "--training_images", "photos/rex", "--token", "effy"),
    *("--regularization_images", "regs", "--class_word", "person"),
)


def job(*arguments: str, usual: tuple[str, ...] = USUAL) -> Job:
    return later_job(read_arguments("python main.py", "", FLAGS, [*usual, *arguments]), started=STARTED)


def at(job: Job, path: str) -> Any:
    value: Any = job.settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def problems(*arguments: str, usual: tuple[str, ...] = USUAL) -> str:
    with pytest.raises(SettingsError) as caught:
        job(*arguments, usual=usual)
    return caught.value.text


def test_what_was_not_said_is_as_it_was() -> None:
    made = job()
    expected = {
        "subject.captions": "filename",
        "subject.class_word": "person",
        "views.crop": "squash",
        "views.flip_probability": 0.5,
        "views.prior_flip_probability": 0.5,
        "prior.prior_weight": 1.0,
        "prior.prior_images": Path("regs"),
        "optimizer.learning_rate": 1e-6,
        "loop.steps": 2000,
        "loop.seed": 23,
        "loop.batch_size": 1,
        "loop.device": None,
        "memory.precision": "fp32",
        "base.weights": "raw",
        "output.output": Path(f"logs/{STARTED}_my_job"),
        "output.file_layout": "joepenna",
        "output.model_dtype": "float16",
        "output.checkpoint_steps": 500,
        "output.model_steps": 0,
        "output.image_log_steps": 500,
    }
    assert {path: at(made, path) for path in expected} == expected
    assert made.notes == ()
    assert made.published == (f"{STARTED}_my_job_{{steps}}_steps_{{photos}}_training_images_effy_token_person_class_word.ckpt")


OPTIONS: dict[str, tuple[list[str], str, Any]] = {
    "seed": (["--seed", "7"], "loop.seed", 7),
    "max_training_steps": (["--max_training_steps", "30"], "loop.steps", 30),
    "flip_p": (["--flip_p", "0.0"], "views.flip_probability", 0.0),
    "original-pairing": (["--original-pairing"], "prior.original_pairing", True),
    "learning_rate": (["--learning_rate", "2e-6"], "optimizer.learning_rate", 2e-6),
    "save_every_x_steps": (["--save_every_x_steps", "250"], "output.model_steps", 250),
    "gpu": (["--gpu", "1"], "loop.device", "cuda:1"),
    "token": ([], "subject.token", "effy"),
    "class_word": ([], "subject.class_word", "person"),
    "project_name": ([], "output.output", Path(f"logs/{STARTED}_my_job")),
    "training_model": ([], "base.model", "model.ckpt"),
    "training_images": ([], "subject.photos", Path("photos/rex")),
    "regularization_images": ([], "prior.prior_images", Path("regs")),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_its_effect(option: str) -> None:
    arguments, path, value = OPTIONS[option]
    assert at(job(*arguments), path) == value


def test_no_option_is_left_out_of_these_tests() -> None:
    assert LATER_ONLY - OPTIONS.keys() == {"config_file_path"}


def test_saving_often_also_means_looking_often_and_being_able_to_go_on() -> None:
    made = job("--save_every_x_steps", "250")
    assert (at(made, "output.checkpoint_steps"), at(made, "output.image_log_steps")) == (250, 250)


def test_without_class_images_there_are_none_and_that_is_said() -> None:
    usual = (*USUAL[:8], "--class_word", "person")
    made = job(usual=usual)
    assert (at(made, "prior.prior_weight"), at(made, "prior.prior_images")) == (0, None)
    assert made.notes[0].startswith(
        "Training without class images, because --regularization_images is missing: other members of the class will come "
        "to look like the subject"
    )


def test_the_token_alone_leaves_class_and_class_images_out() -> None:
    made = job("--token_only")
    assert (at(made, "subject.class_word"), at(made, "prior.prior_weight"), at(made, "prior.prior_images")) == ("", 0, None)
    assert made.notes == ("The token alone names the subject, so class word and class images are ignored, as in the original",)
    assert made.published == f"{STARTED}_my_job_{{steps}}_steps_{{photos}}_training_images_effy_token.ckpt"


def test_mistakes_are_told_together() -> None:
    found = problems("--max_training_steps", "0", "--xyzzy", "1", "--flip_p", "2", usual=("--training_model", "m.ckpt"))
    for message in (
        "unknown option --xyzzy",
        "--max_training_steps is '0': expected at least 1",
        "--flip_p is '2': expected at most 1",
        "--project_name is missing: the name of the run",
        "--token is missing: the rare word that names the subject",
        "--training_images is missing: folder of photos of the subject",
    ):
        assert message in found
    assert "'1'" not in found


def test_options_of_two_programs_are_not_mixed() -> None:
    with pytest.raises(SettingsError) as caught:
        read_job(read_arguments("python main.py", "", FLAGS, ["--training_images", "p", "--data_root", "q", "-b", "x.yaml"]))
    mixed = "--base, --data_root of the first program cannot be combined with --training_images of the second; use"
    assert caught.value.text.startswith(f"{mixed} the options of one program only")


def config(path: Path, **changes: Any) -> str:
    values = {
        "schema": 1,
        "config_date_time": STARTED,
        "project_config_filename": "x-config.json",
        "project_name": "my job",
        "seed": 5,
        "debug": False,
        "gpu": 0,
        "max_training_steps": 30,
        "save_every_x_steps": 10,
        "training_images_folder_path": "photos/rex",
        "training_images_count": 2,
        "training_images": ["a.jpg", "b.jpg"],
        "regularization_images_folder_path": "regs",
        "token": "effy",
        "token_only": False,
        "class_word": "person",
        "flip_percent": 0.25,
        "learning_rate": 2e-6,
        "model_repo_id": "",
        "model_path": "model.ckpt",
        **changes,
    }
    path.write_text(json.dumps(values))
    return str(path)


def test_a_file_says_the_same_as_options(tmp_path: Path) -> None:
    file = config(tmp_path / "c.json")
    made = job("--config_file_path", file, usual=())
    options = (
        *("--seed", "5", "--gpu", "0", "--max_training_steps", "30", "--save_every_x_steps", "10", "--flip_p", "0.25"),
        *("--learning_rate", "2e-6"),
    )
    assert made.settings == job(*options).settings
    (name, text), *rest = made.beside.items()
    assert (name, rest) == (f"configs/{STARTED}_my_job-config.json", [])
    assert text == Path(file).read_text()


def test_a_file_without_a_path_to_a_model_names_a_hub_id(tmp_path: Path) -> None:
    made = job("--config_file_path", config(tmp_path / "c.json", model_path="", model_repo_id="panopstor/EveryDream"), usual=())
    assert at(made, "base.model") == "panopstor/EveryDream"


def test_debugging_is_asked_for_in_a_file_or_beside_it(tmp_path: Path) -> None:
    assert not job("--config_file_path", config(tmp_path / "c.json"), usual=()).is_debug
    assert job("--config_file_path", config(tmp_path / "c.json", debug=True), usual=()).is_debug
    assert job("--config_file_path", config(tmp_path / "c.json"), "-d", usual=()).is_debug


def test_an_empty_text_leaves_an_option_out() -> None:
    made = job("--regularization_images", "", usual=(*USUAL[:8], "--class_word", "person"))
    assert (at(made, "prior.prior_weight"), at(made, "prior.prior_images")) == (0, None)


def test_a_run_that_goes_on_has_its_name() -> None:
    assert job("-r", "logs/x", "--project_name", "z", usual=()).problems == (
        "--project_name names a new run and --resume continues an existing one; use only one of them",
    )


def test_a_name_stays_in_its_folder() -> None:
    made = job("--project_name", "a/b c", usual=USUAL[2:])
    assert at(made, "output.output") == Path(f"logs/{STARTED}_a-b_c")
    assert list(made.beside) == [f"configs/{STARTED}_a-b_c-config.json"]


def test_a_run_that_goes_on_needs_nothing_said_again() -> None:
    made = job("-r", "logs/x", "--max_training_steps", "9", usual=())
    assert (made.problems, made.notes, made.settings, made.said) == ((), (), None, {"loop.steps": "9"})


def test_what_options_said_is_written_as_such_a_file(tmp_path: Path) -> None:
    written = json.loads(next(iter(job("--seed", "5", "--token_only").beside.values())))
    assert written.keys() <= _JSON.keys()
    assert (written["schema"], written["seed"], written["token_only"], written["flip_percent"]) == (1, 5, True, None)
    path = tmp_path / "again.json"
    path.write_text(json.dumps(written))
    assert job("--config_file_path", str(path), usual=()).settings == job("--seed", "5", "--token_only").settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "expected a configuration of schema 1, found 2"),
        ({"sead": 1}, "unknown key sead; did you mean seed?"),
        ({"max_training_steps": 0}, "c.json: max_training_steps is '0': expected at least 1"),
        ({"token": ""}, "--token is missing"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert message in problems("--config_file_path", config(tmp_path / "c.json", **change), usual=())


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    found = problems("--config_file_path", "no.json", usual=())
    assert found.startswith("no.json: cannot be read: No such file or directory\n")
    assert "missing" not in found
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json: not a JSON file" in problems("--config_file_path", str(tmp_path / "bad.json"), usual=())
    (tmp_path / "list.json").write_text("[]")
    assert "expected a configuration of schema 1, found a list" in problems(
        "--config_file_path", str(tmp_path / "list.json"), usual=()
    )


def test_a_file_says_everything(tmp_path: Path) -> None:
    found = problems("--config_file_path", config(tmp_path / "c.json"), "--seed", "1", usual=())
    assert "--config_file_path replaces all options, so --seed would have no effect; omit the other options" in found
