"""Words of other people in every page and every JSON answer of `dreambooth web`: they stay words.

One project holds an odd word in every place that a person, a file of another program or a job fills: title, settings, names and
captions of photos, requests, prompts in pictures, events, models, what jobs said and why they ended. Its pages are held against
those of the same project with a plain word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from dreambooth.files import write_json
from dreambooth.web.app import ROUTES, application
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord
from dreambooth.web.projects import ProjectNotes
from dreambooth.web.screen_train import live_parts
from tests.fuzz.test_injection import ATTACKS, Elements

FEW = settings(max_examples=2, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
TOKEN, ADDRESS = "k" * 43, "http://127.0.0.1:7860"
TEXT_SETTINGS = ("subject.class_word", "subject.token", "subject.instance_prompt", "base.model", "output.preview_prompts")
OWN_ADDRESSES = {"href", "src", "action", "formaction", "data-live"}
NO_PAGES = {"/projects/{project}/files.zip"}
EVERYTHING = "".join(ATTACKS)

words = st.sampled_from(ATTACKS) | st.text(min_size=1, max_size=40)


class Kinds(HTMLParser):
    """The kinds of elements with their attributes, and the addresses that they lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.kinds: set[tuple[str, ...]] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.add((tag, *sorted(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in OWN_ADDRESSES]

    def handle_comment(self, data: str) -> None:
        self.kinds.add(("comment",))


class Site:
    """A project and its pages; `tell` writes a word into every place."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk.at(folder / "projects", folder / "models")
        self.client = TestClient(application(self.desk, token=TOKEN), base_url=ADDRESS, follow_redirects=False)
        self.client.headers["authorization"] = f"Bearer {TOKEN}"
        self.project = self.desk.projects.create("Rex", preset="toybox")
        self.models = folder / "models"

    def tell(self, word: str, *, setting: str, name: str) -> None:
        """`setting` is the word for settings and captions, which may be refused, `name` that for names of files."""
        notes = dict.fromkeys(TEXT_SETTINGS, setting) | {"output.preview_prompts": [setting]}
        write_json(self.project.path / "project.json", asdict(ProjectNotes(word, 0.0, "toybox", notes)))
        for folder in (self.project.photos, self.project.exports, self.project.runs, self.project.pictures, self.models):
            for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
                path.unlink() if path.is_file() else path.rmdir()
        photo = self.project.photos / f"{name}.png"
        _picture(photo, word)
        photo.with_suffix(".txt").write_text(setting, encoding="utf-8")
        (self.project.photos / f"{name}-broken.png").write_bytes(b"no picture")
        for folder in (self.models, self.project.exports):
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.safetensors").write_bytes(b"model")
        self._tell_run(word)
        _picture(self.project.pictures / "1" / "a.png", word)
        write_json(self.project.pictures / "1" / "request.json", {"prompt": word, "seed": word})
        self._tell_jobs(word)

    def _tell_run(self, word: str) -> None:
        run = self.project.runs / "1"
        for step in (1, 2):
            _picture(run / "previews" / f"step-{step:06d}" / "00-a.png", word)
        _picture(run / "previews" / "over-time.png", word)
        for step, name in ((1, "models/step-000001.safetensors"), (2, "model.safetensors")):
            (run / name).parent.mkdir(exist_ok=True)
            save_file({"a": np.zeros(4, np.float32)}, run / name, metadata={"global_step": str(step), word or "x": word})
        values = {"base": {"model": word}, "subject": {"photos": word, "class_word": word, "token": word}, "loop": {"steps": 4}}
        (run / "config.yaml").write_text(json.dumps(values), encoding="utf-8")
        events: list[dict[str, Any]] = [{"event": "step", "step": step, "time": 1.0, "instance_loss": 0.1} for step in (1, 2)]
        events += [{"event": "preview", "step": 2, "time": 2.0, "prompt": word}, {"event": word, "step": 2, "time": 3.0}]
        (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")

    def _tell_jobs(self, word: str) -> None:
        store = self.desk.queue.store
        for job in store.all():
            store.remove(job)
        records = [{"event": "say", "text": word}, {"event": "warn", "text": word}]
        records.append({"event": "table", "title": word, "columns": [word, word], "rows": [[word, word]]})
        for kind, state, place in (
            ("train", "failed", "runs/1"),
            ("pictures", "failed", "pictures/1"),
            *((kind, "failed", "") for kind in ("describe", "plan", "convert", "word")),
            ("convert", "waiting", ""),
        ):
            record = JobRecord(0, kind, word, self.project.name, (word,), word, "", 0.0, place=place)
            job = store.add(replace(record, state=state, reason=word))  # type: ignore[arg-type]
            said = "".join(json.dumps(one) + "\n" for one in records) if kind in {"describe", "plan"} else word
            store.files(job.number).log.write_text(said, encoding="utf-8", errors="surrogatepass")

    def pages(self) -> Iterator[tuple[str, str]]:
        """Each page that is asked for without a number or a name of a file, and that of each job, and one of a mistake."""
        for method, path, _ in ROUTES:
            if method == "GET" and path.replace("{project}", "").count("{") == 0 and path not in NO_PAGES:
                yield self._page(path.format(project=self.project.name))
        for job in self.desk.queue.store.all():
            yield self._page(f"/jobs/{job.number}")
        yield self._page("/projects/rex/choose?left=2&right=2")
        yield from live_parts(self.desk, self.project).items()

    def _page(self, path: str) -> tuple[str, str]:
        answer, values = self.client.get(path), self.client.get(f"/api/v1{path}")
        assert answer.status_code == values.status_code == 200, (path, answer.text[-600:])
        assert answer.headers["content-type"].startswith("text/html") and "default-src 'none'" in str(answer.headers)
        assert values.headers["content-type"] == "application/json" and values.headers["x-content-type-options"] == "nosniff"
        assert isinstance(values.json(), dict)
        return path, answer.text

    def mistakes(self, word: str) -> str:
        """The page after a value that is refused."""
        answers = [self.client.post("/projects/rex/choose", data={"run": "1", "step": word})]
        answers.append(self.client.post("/projects/rex/choose", data={"run": word, "step": "2"}))
        answers.append(self.client.post("/projects/rex/settings", data={"shown": word}))
        answers.append(self.client.post("/projects/rex/try", data={"prompt": "a", "seed": f"x{word}"}))
        answers.append(self.client.post("/projects/rex/photos", files={"files": (f"{word}.svg", b"<svg onload='x'/>")}))
        assert {answer.status_code for answer in answers} <= {200, 422}, [answer.text[-300:] for answer in answers]
        return "".join(answer.text for answer in answers)


def _picture(path: Path, word: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = PngInfo()
    chunks.add_text("dreambooth", json.dumps({"prompt": word, "seed": word, "sampler": word, "steps": word}))
    Image.fromarray(np.zeros((80, 64, 3), np.uint8)).save(path, pnginfo=chunks)


def _name(word: str) -> str:
    """What a file can be called: no slash, no NUL, not too long, not hidden."""
    return "a" + word.replace("/", "-").replace("\0", "").encode("utf-8", "replace")[:150].decode("utf-8", "ignore")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def plain(site: Site) -> dict[str, list[tuple[str, ...]]]:
    """The elements of each page with a plain word."""
    site.tell("x", setting="dog", name="a")
    return {path: Elements(page).found for path, page in site.pages()}


@pytest.fixture(scope="module")
def kinds(site: Site) -> set[tuple[str, ...]]:
    """The kinds of elements of all pages with settings that are right and that are wrong."""
    found: set[tuple[str, ...]] = set()
    for setting in ("dog", "\x07", "{a}"):
        site.tell("x", setting=setting, name="a")
        found |= Kinds("".join(page for _, page in site.pages()) + site.mistakes("\x07")).kinds
    return found


@FEW
@given(words.filter(str.strip))
@example(EVERYTHING)
def test_pages_hold_words_and_no_elements_of_theirs(site: Site, plain: dict[str, list[tuple[str, ...]]], word: str) -> None:
    site.tell(word, setting="dog", name=_name(word))
    for path, page in site.pages():
        assert Elements(page).found == plain[path], path


@pytest.mark.slow
@FEW
@given(words.filter(str.strip))
@example(EVERYTHING)
def test_settings_that_are_refused_add_nothing_but_their_problem(site: Site, kinds: set[tuple[str, ...]], word: str) -> None:
    site.tell("x", setting=word, name="a")
    told = Kinds("".join(page for _, page in site.pages()) + site.mistakes(word))
    assert told.kinds <= kinds
    assert all(address.startswith("/") and not address.startswith("//") for address in told.addresses if address != "#main")


def test_names_that_are_not_utf8_are_shown(site: Site) -> None:
    site.tell("x", setting="dog", name="a\udcff")
    assert all("<h1" in page for path, page in site.pages() if path.startswith("/"))
    files = site.client.get("/api/v1/projects/rex/take").json()["files"]
    answer = site.client.get(next(one["url"] for one in files if one["name"] == "a\udcff.safetensors"))
    assert answer.content == b"model" and "attachment" in answer.headers["content-disposition"]
