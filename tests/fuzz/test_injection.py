"""Words of other people - prompts, tokens, class words, names of files, metadata - stay words wherever they are written."""

from __future__ import annotations

import io
import json
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from dreambooth.config import parse_settings, read_yaml, write_yaml
from dreambooth.display import quoted
from dreambooth.display_console import ConsoleDisplay
from dreambooth.evaluation.report import Confusion, Curve, PictureRow, Pictures, Report, ScoreRow, SubjectPart, report_html
from dreambooth.pages.images import save_picture, with_caption, write_contact_sheet
from dreambooth.pages.model_card import ModelCard, ShownPicture, ShownScore, model_card
from dreambooth.pages.story import Row, write_report
from dreambooth.reading import parse_json
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.schema.verbs import TrainSettings
from dreambooth.weights.subjects import LearnedSubject, subjects_text
from dreambooth.yaml_reading import parse_yaml

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
ATTACKS = (
    *("<script>alert(1)</script>", '" onload="x', "' onerror='x", "</td></table>", "</style>", "<!--", "]]>", "&lt;b&gt;"),
    *("\x1b[2J\x1b[31m", "\x9b31m", "\x07", "a\rb", "\u202etxt", "[bold]x[/bold]", "[/]", "[link=file:///]x[/link]"),
    *("{0.__class__}", "{title}", "%s%n", "{{ 7 * 7 }}", "{% raw %}", "$(touch x)", "`touch x`", "; rm -rf x", "a\n# b: c"),
    *("../../x", "a\nb: !!python/name:os.system", "\u2028- x", "\x85x: 1", "\ufeff"),
)
words = st.sampled_from(ATTACKS) | st.text(max_size=40)
names = words | words.map(lambda word: word.replace("\0", "") + "\udcff")  # of a file: its bytes need not be UTF-8
SOUND = "x"
PIXELS = np.zeros((8, 8, 3), np.uint8)


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *sorted(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment",))


def _report(word: str) -> str:
    curve = Curve(word, word, {word: {0: 0.0, 5: 1.0}, f"{word}2": {0: 1.0}})
    part = SubjectPart(
        name=word,
        verdict=[word],
        scores=[ScoreRow(word, word, True, None, None, None)],
        alarm=word,
        is_alarming=True,
        pictures=[Pictures(word, word, [PictureRow(word, [PIXELS], [PIXELS])])],
        curves=[curve],
        strengths=[[word] * 5],
        about_strengths=word,
    )
    confusion = Confusion([word, word], [[1.0, 0.0], [0.0, 1.0]], word)
    return report_html(Report(word, word, confusion, [part, part], [curve], [(word, 1)], {word: word}, word))


def _story(word: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        rows = [Row(word, word, [PIXELS], [word])]
        path = write_report(
            Path(folder) / "a.html", word, rows, losses={word: {0: 1.0, 1: 2.0}}, facts={word: word}, next_commands=word
        )
        return path.read_text(encoding="utf-8")


@FEW
@given(words.filter(str.strip))
def test_pages_have_the_same_elements_whatever_is_told_in_them(word: str) -> None:
    for page in (_report, _story):
        assert Elements(page(word)).found == Elements(page(SOUND)).found


@FEW
@given(names)
def test_a_terminal_shows_words_and_obeys_none(word: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace")
    display = ConsoleDisplay(Console(file=file, width=80))
    display.say(word)
    display.warn(word)
    display.table(word, (word, "b"), [(word, word)])
    with display.progress(word, 2, "images") as advance:
        advance(2)
    file.flush()
    shown = file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    if "[" in word and word.isascii() and word.isprintable():
        assert shown.count(word) >= 3, "square brackets are no markup"


@FEW
@given(names.filter(lambda name: "\0" not in name))
def test_a_comment_in_yaml_holds_no_settings_and_the_file_can_be_read(name: str) -> None:
    values = {"base": {"model": "toybox"}, "subject": {"photos": "x", "class_word": "dog"}}
    asked = parse_settings(TrainSettings, values, where="test")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_yaml(path, asked, comment=f"To resume it:  dreambooth train --resume {quoted(name)}\nTo repeat it: {name!a}")
        assert parse_settings(TrainSettings, read_yaml(path), where="test") == asked


@FEW
@given(words.filter(lambda word: "\0" not in word), words.filter(lambda word: "\0" not in word))
def test_the_texts_of_a_png_are_the_prompts(prompt: str, negative: str) -> None:
    options = SamplingOptions("ddim", 2, 1.0, 8, 8, 0, negative_prompt=negative)
    text = picture_text(Picture(prompt, 0), options, model_digest="ab", device=torch.device("cpu"), dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        save_picture(path, torch.zeros(3, 8, 8), text)
        with Image.open(path) as image:
            found = {name: str(value) for name, value in image.info.items() if isinstance(value, str)}
    assert found == text
    record = json.loads(found["dreambooth"])
    assert (record["prompt"], record["negative_prompt"]) == (prompt, negative)


@FEW
@given(names, names)
def test_sheets_take_any_label(label: str, caption: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.png"
        write_contact_sheet(path, [[with_caption(PIXELS, caption, side=16)]], row_labels=[label], column_labels=[caption])
        with Image.open(path) as image:
            assert dict(image.info) == {"dreambooth": "sheet"}


def _card(word: str) -> str:
    picture, score = ShownPicture("pictures/a.png", word), ShownScore(word, word, "0.5", "0.1")
    card = ModelCard(
        title=word,
        what="LoRA for Stable Diffusion 1",
        base=word,
        base_hub_id=None,
        license=word,
        license_reason="It is.",
        trigger_words=(word,),
        prompts=(word,),
        file="model.safetensors",
        word=word,
        word_file="embeddings/model.safetensors",
        pictures=(picture,),
        scores=(score,),
        num_steps=4,
        num_photos=2,
        settings={"subject": {"token": word}},
    )
    _, head, body = model_card(card).split("---\n", 2)
    assert set(parse_yaml(head)) == {"license", "pipeline_tag", "tags", "instance_prompt"}
    return str(MarkdownIt("commonmark").enable("table").render(body))


@FEW
@given(
    words.filter(str.strip) | st.sampled_from(["1. x", "2) x", "- x", "# x", "> x", "    x", "a | b", "```", "![a](b)", "***"])
)
def test_a_model_card_has_the_same_elements_whatever_is_told_in_it(word: str) -> None:
    assert Elements(_card(word)).found == Elements(_card(SOUND)).found


@FEW
@given(words, words)
def test_a_model_lists_its_subjects_word_for_word(token: str, class_word: str) -> None:
    one = LearnedSubject(token, class_word, f"photo of a {token}")
    assert parse_json(subjects_text([], [one])) == [{"token": token, "class_word": class_word, "prompt": one.prompt}]
