"""The form is the schema: every setting is on a page, and what a form posts is what the command line takes."""

from __future__ import annotations

import re
import shlex

import pytest
from starlette.testclient import TestClient

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.schema.leaves import leaves
from dreambooth.schema.verbs import TrainSettings
from dreambooth.web.commands import train_command
from dreambooth.web.desk import Desk
from dreambooth.web.forms import HIDDEN, all_fields, checked_settings, posted_changes
from dreambooth.web.projects import Project


@pytest.fixture
def project(desk: Desk) -> Project:
    return desk.projects.create("Rex", preset="pet", settings={"base.model": "toybox", "subject.class_word": "dog"})


def _form(project: Project) -> dict[str, list[str]]:
    """What a browser would post of the page with all settings."""
    fields = all_fields(project)
    form = {"shown": [field["path"] for field in fields]}
    for field in fields:
        if field["kind"] != "switch" or field["value"] == "true":
            form[field["path"]] = [field["value"]]
    return form


def test_every_setting_of_a_training_is_on_the_page(client: TestClient, project: Project) -> None:
    text = client.get("/projects/rex/settings").text
    shown = set(re.findall(r'name="shown" value="([^"]+)"', text))
    assert shown == {leaf.path for leaf in leaves(TrainSettings)} - HIDDEN and len(shown) > 75
    labels = set(re.findall(r'<label[^>]* for="([^"]+)"', text))
    controls = set(re.findall(r'<(?:input|select|textarea)(?: type="[a-z]+")? id="([^"]+)"', text))
    switches = set(re.findall(r'type="checkbox" id="([^"]+)"', text))
    assert controls - switches == labels and len(labels) > 50


def test_a_form_posted_as_it_is_changes_nothing(project: Project) -> None:
    changed = posted_changes(project.notes, _form(project))
    assert changed == {"settings": project.notes.settings, "preset": "pet"}


def test_what_is_posted_is_what_the_command_line_reads(desk: Desk, project: Project) -> None:
    form = {**_form(project), "loop.steps": ["12"], "output.preview_prompts": ["a dog\r\n\r\n a boat "], "loop.seed": ["7"]}
    form |= {"memory.step_in_backward": ["false"], "optimizer.learning_rate": ["2e-6"], "output.tensorboard": ["true"]}
    form["subject.allow_silent_token"] = []
    desk.projects.change(project, lambda notes: posted_changes(notes, form))
    settings, problems = checked_settings(project)
    assert problems == [] and settings is not None
    command = train_command(project, project.next_run(), settings)
    words = shlex.split(command.typed)[2:]
    verb = VERBS["train"]
    typed = settings_from(verb, verb.record(), read_arguments(verb, verb.record(), words))
    assert typed.model_copy(update={"prior": settings.prior}) == settings
    assert typed.prior.prior_folder == project.class_images
    assert (settings.loop.steps, settings.output.preview_prompts) == (12, ("a dog", "a boat"))
    assert set(project.notes.settings) == {
        *("base.model", "subject.class_word", "loop.steps", "loop.seed", "output.preview_prompts", "output.tensorboard"),
        *("memory.step_in_backward", "optimizer.learning_rate"),
    }


def test_wrong_values_are_kept_and_told_at_their_field_in_the_words_of_the_command_line(
    client: TestClient, project: Project
) -> None:
    form = {"shown": ["loop.steps", "views.crop"], "loop.steps": "many", "views.crop": "centre", "screen": "settings"}
    problems = client.post("/api/v1/projects/rex/settings", json=form).json()["problems"]
    said = {one["setting"]: one["problem"] for one in problems}
    assert said["loop.steps"] == "--steps is 'many': expected a whole number"
    assert said["views.crop"].endswith("did you mean 'center'?")
    fields = {field["path"]: field for field in all_fields(project)}
    assert fields["loop.steps"]["value"] == "many" and fields["loop.steps"]["problems"] == (said["loop.steps"],)
    assert said["loop.steps"].replace("'", "&#39;") in client.get("/projects/rex/train").text


def test_a_json_object_changes_the_settings_that_it_names(client: TestClient, desk: Desk, project: Project) -> None:
    address, before = "/api/v1/projects/rex/settings", project.notes.settings
    assert client.post(address, json={"loop.steps": 9, "loop.seed": 3, "shown": ["loop.seed"]}).json()["problems"] == []
    assert project.notes.settings == {**before, "loop.steps": "9", "loop.seed": "3"}
    wrong = client.post(address, json={"loop.steps": [1, 2], "loop": {"steps": 5}})
    assert wrong.status_code == 422
    assert wrong.json()["problems"] == ["unknown setting 'loop'", "loop.steps takes one value, not a list of 2"]
    client.post(address, json={"loop.steps": None, "loop.seed": ""})
    assert project.notes.settings == before
    client.post("/projects/rex/settings", data={"loop.steps": "9"})
    assert project.notes.settings == before


def test_a_form_that_shows_one_setting_changes_only_that_one(desk: Desk, project: Project) -> None:
    changed = posted_changes(project.notes, {"shown": ["loop.steps"], "loop.steps": ["9"]})
    assert changed["settings"] == {**project.notes.settings, "loop.steps": "9"}
    desk.projects.change(project, lambda notes: changed)
    assert "loop.steps" not in posted_changes(project.notes, {"shown": ["loop.steps"], "loop.steps": [""]})["settings"]


def test_without_class_images_no_folder_is_named_for_them(desk: Desk, project: Project) -> None:
    desk.projects.change(
        project, lambda notes: posted_changes(notes, {"shown": ["prior.prior_weight"], "prior.prior_weight": ["0"]})
    )
    settings, problems = checked_settings(project)
    assert problems == [] and "prior-folder" not in train_command(project, project.next_run(), settings).typed


def test_hidden_settings_cannot_be_posted(client: TestClient, project: Project) -> None:
    for path in HIDDEN:
        answer = client.post("/api/v1/projects/rex/settings", json={"shown": [path], path: "/tmp/elsewhere"})
        assert answer.status_code == 422
    assert set(project.notes.settings) == {"base.model", "subject.class_word"}


def test_a_word_where_a_number_belongs_is_not_lost_by_the_browser(client: TestClient, project: Project) -> None:
    client.post("/api/v1/projects/rex/settings", json={"shown": ["loop.steps"], "loop.steps": "many"})
    page = client.get("/projects/rex/train").text
    assert re.search(r'name="loop.steps" value="many" placeholder="[^"]*" type="text" autocomplete', page)
    assert re.search(r'name="optimizer.learning_rate"[^>]* type="number" step="any"', page)
