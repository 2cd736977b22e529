"""Tasks end one by one, whatever does them; with Ray, which is a stand-in here, a lost worker's task is told of."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dreambooth.errors import Interrupted, PhotoError, SettingsError
from dreambooth.runtime import workers
from dreambooth.runtime.workers import InThisProcess, Outcome, OverRay


def work(task: str) -> None:
    """As the task says."""
    if task == "mistake":
        raise PhotoError(["one", "two"])
    if task == "bug":
        raise KeyError("dog")
    if task == "stop":
        raise Interrupted("stopped", exit_code=130)
    if task == "lost":
        raise FakeRayError("the worker died\nand more")


class FakeRayError(Exception):
    """In place of `ray.exceptions.RayError`."""


class FakeRay(ModuleType):
    """What is asked of Ray, done at once; the last tasks are done first."""

    def __init__(self, num_gpus: float) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=FakeRayError)
        self.num_gpus = num_gpus
        self.calls: list[Any] = []
        self.waited = 0
        self.signal_at: int | None = None

    def init(self, *, address: str) -> None:
        if address == "slow:1":
            raise Interrupted("stopped", exit_code=130)
        if address == "nowhere:1":
            raise Exception("nothing answers\nat all")  # as plain as Ray's own
        self.calls.append(("init", address))

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, **({"GPU": self.num_gpus} if self.num_gpus else {})}

    def remote(self, function: Callable[..., Outcome]) -> Any:
        def options(**given: Any) -> Any:
            self.calls.append(given)
            return SimpleNamespace(remote=lambda run, name, task: (function, run, name, task))

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout <= 1, "somebody may ask to stop"
        self.waited += 1
        if self.waited == 1:
            return [], references
        if self.signal_at == self.waited:
            try:
                signal.raise_signal(signal.SIGTERM)
            except Interrupted as error:
                raise AssertionError("Ray aborts the process here") from error
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference: Any) -> Outcome:
        function, run, name, task = reference
        if task == "lost":
            raise FakeRayError("the worker died\nand more")
        found: Outcome = function(run, name, task)
        return found


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay(num_gpus=2)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(workers, "has_ray", lambda: True)
    return fake


def test_a_task_that_fails_leaves_the_others_alone() -> None:
    good, mistake, bug, last = InThisProcess().outcomes(work, {"a": "", "b": "mistake", "c": "bug", "d": ""})
    assert (good, last) == (Outcome("a"), Outcome("d"))
    assert mistake == Outcome("b", "- one\n- two")
    assert (bug.name, bug.error) == ("c", "KeyError: 'dog'")
    assert bug.traceback is not None
    assert 'raise KeyError("dog")' in bug.traceback


def test_being_asked_to_stop_stops_them_all() -> None:
    outcomes = InThisProcess().outcomes(work, {"a": "", "b": "stop", "c": ""})
    assert next(outcomes).name == "a"
    with pytest.raises(Interrupted):
        next(outcomes)


def test_ray_gives_each_task_a_gpu_and_starts_again_what_was_lost(ray: FakeRay) -> None:
    found = [*OverRay("10.0.0.1:6379").outcomes(work, {"a": "", "b": "mistake"})]
    assert found == [Outcome("b", "- one\n- two"), Outcome("a")], "as they end"
    init, options, shutdown = ray.calls
    assert (init, shutdown) == (("init", "10.0.0.1:6379"), "shutdown")
    assert options == {"num_gpus": 1, "max_retries": 5, "retry_exceptions": [workers._StoppedError]}


def test_ray_starts_on_this_machine_when_no_address_is_given(ray: FakeRay) -> None:
    ray.num_gpus = 0
    assert [*OverRay(None, needs_gpu=False).outcomes(work, {"a": ""})] == [Outcome("a")]
    assert ray.calls[0] == ("init", "local")
    assert ray.calls[1]["num_gpus"] == 0


def test_a_task_whose_workers_are_all_lost_is_told_of(ray: FakeRay) -> None:
    found = [*OverRay("auto").outcomes(work, {"a": "", "b": "lost"})]
    assert found == [Outcome("b", "its worker was lost 6 times: the worker died"), Outcome("a")]


def test_ray_is_let_go_when_nobody_waits_any_more(ray: FakeRay) -> None:
    outcomes = OverRay("auto").outcomes(work, {"a": "", "b": ""})
    next(outcomes)
    outcomes.close()
    assert ray.calls[-1] == "shutdown"


def test_a_signal_is_looked_at_between_waits_and_never_raised_within_one(ray: FakeRay) -> None:
    ray.signal_at = 3
    before = signal.getsignal(signal.SIGTERM)
    outcomes = OverRay("auto").outcomes(work, {"a": "", "b": ""})
    assert next(outcomes).name == "b"
    with pytest.raises(Interrupted) as stop:
        next(outcomes)
    assert stop.value.exit_code == 143
    assert (ray.waited, ray.calls[-1], signal.getsignal(signal.SIGTERM)) == (3, "shutdown", before)


def test_a_cluster_without_a_gpu_is_refused_at_once(ray: FakeRay) -> None:
    ray.num_gpus = 0
    with pytest.raises(SettingsError, match="Ray found no GPU") as raised:
        next(OverRay("auto").outcomes(work, {"a": ""}))
    assert raised.value.hint == "To work without a GPU: --device cpu"
    assert ray.calls[-1] == "shutdown"


def test_an_address_where_nothing_answers_is_refused(ray: FakeRay) -> None:
    with pytest.raises(SettingsError, match=r"ray is .nowhere:1.: nothing answers\n") as raised:
        next(OverRay("nowhere:1").outcomes(work, {"a": ""}))
    assert raised.value.hint is not None


def test_being_asked_to_stop_while_ray_starts_is_no_mistake(ray: FakeRay) -> None:
    with pytest.raises(Interrupted):
        next(OverRay("slow:1").outcomes(work, {"a": ""}))
    assert ray.calls == ["shutdown"]


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "has_ray", lambda: False)
    with pytest.raises(SettingsError) as raised:
        next(OverRay(None).outcomes(work, {"a": ""}))
    assert raised.value.hint == "Install it with: pip install 'dreambooth[ray]'"
