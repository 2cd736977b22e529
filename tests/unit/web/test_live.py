"""What open pages are told while a model trains."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from dreambooth.web.desk import Desk
from dreambooth.web.live import LiveParts


def test_a_new_page_is_told_what_is_true_now_and_others_wait_for_the_next_look(
    client: TestClient, trained: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreambooth.web.live.time.monotonic", lambda: 1000.0)
    live, project = LiveParts(desk), desk.projects.named(trained)
    job = desk.queue.store.of(trained, ("train",))[-1]

    async def told(*, is_new: bool) -> str:
        return (await live.of(project, is_new=is_new))["live-state"]

    async def all_of_it() -> list[str]:
        before = await told(is_new=True)
        desk.queue.stop(job.number)
        return [before, await told(is_new=False), await told(is_new=True)]

    before, soon, new = asyncio.run(all_of_it())
    assert before == soon != new
    assert "waiting" in before and "waiting" not in new
