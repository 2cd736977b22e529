"""The blind test: what is compared, what is counted, and that nothing tells the steps before the end."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from dreambooth.web.screen_blind import MOST_QUESTIONS, Question, blind_questions, preferences


def test_pairs_are_new_each_time_and_their_sides_are_mixed() -> None:
    one, other = (blind_questions(seed, num_models=5, num_prompts=2) for seed in ("a1", "b2"))
    assert one == blind_questions("a1", num_models=5, num_prompts=2) != other
    assert len({(frozenset((question.left, question.right)), question.prompt) for question in one}) == MOST_QUESTIONS
    sides = {question.left < question.right for question in one + other}
    assert sides == {True, False}
    assert len(blind_questions("a1", num_models=2, num_prompts=1)) == 1


def test_what_was_preferred_is_counted_of_what_was_shown() -> None:
    questions = [Question(0, 1, 0), Question(2, 0, 0), Question(1, 2, 0)]
    assert preferences(questions, "lrr") == {0: (2, 2), 1: (0, 2), 2: (1, 2)}
    assert preferences(questions, "") == {}


def test_the_steps_are_told_at_the_end_and_one_of_them_can_be_chosen(client: TestClient, trained: str) -> None:
    page = client.get(f"/projects/{trained}/choose/blind?seed=a1").text
    assert re.sub(r'src="[^"]*"', "", page).lower().count("step 2") == 0
    assert "1 of 1" in page and page.count("is better</button>") == 2
    values = client.get(f"/api/v1/projects/{trained}/choose/blind?seed=a1&answers=l").json()
    preferred = {one["step"]: one["preferred"] for one in values["results"]}
    assert sorted(preferred) == [2, 4] and sum(preferred.values()) == 1
    assert values["results"][0]["preferred"] == 1
    assert "Choose step 2" in client.get(f"/projects/{trained}/choose/blind?seed=a1&answers=l").text


@pytest.mark.parametrize("query", ["seed=<b>", "seed=a1&answers=x", "run=9", "run=.."])
def test_a_damaged_address_is_refused(client: TestClient, trained: str, query: str) -> None:
    assert client.get(f"/projects/{trained}/choose/blind?{query}").status_code in (404, 422)
