"""Runs independent tasks, one after another in this process or on the GPUs of many machines with Ray, behind one protocol.

A failed task is reported in its turn and the others continue. A task whose worker is lost is restarted elsewhere: it must
resume from what it has written, in folders that all machines share.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dreambooth.errors import DreamboothError, Interrupted, SettingsError
from dreambooth.runtime.interrupts import Interrupts

__all__ = ["InThisProcess", "Outcome", "OverRay", "Workers", "has_ray"]

T = TypeVar("T")

_LOCAL = "local"
_MAX_RETRIES = 5
_LOOK_SECONDS = 1.0  # interval between checks for a request to stop
_INSTALL = "Install it with: pip install 'dreambooth[ray]'"


@dataclass(frozen=True)
class Outcome:
    """The result of a task."""

    name: str
    error: str | None = None
    """None if it succeeded; otherwise a message for users."""
    traceback: str | None = None
    """Traceback, for errors that are not a user's mistake."""


class Workers(Protocol):
    """Runs tasks."""

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """Run `work` on every task, named by the keys; yields outcomes as tasks end. The caller closes the iterator.

        `work` is a module-level function, and tasks must be picklable, since they may travel to another machine. Raises
        Interrupted when the user asks to stop.
        """


@dataclass(frozen=True)
class InThisProcess:
    """Runs tasks one after another in this process."""

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """See `Workers.outcomes`."""
        for name, task in tasks.items():
            yield _attempt(work, name, task)


@dataclass(frozen=True)
class OverRay:
    """Runs tasks on the GPUs of a Ray cluster, or of this machine if the address is `local`: one GPU per task."""

    address: str | None
    """Address of a running cluster, or `auto` for the one to which this machine belongs; None starts Ray on this machine."""
    needs_gpu: bool = True

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """See `Workers.outcomes`.

        Raises SettingsError if Ray is not installed, nothing responds at the address, or there is no GPU.
        """
        ray = _load_ray()
        try:
            _connect(ray, self.address or _LOCAL)
            if self.needs_gpu and not ray.cluster_resources().get("GPU"):
                raise SettingsError("Ray found no GPU, and each subject needs one", hint="To work without a GPU: --device cpu")
            attempt = ray.remote(_remote_attempt).options(
                num_gpus=1 if self.needs_gpu else 0, max_retries=_MAX_RETRIES, retry_exceptions=[_StoppedError]
            )
            # Ray installs its own signal handler, and aborts if a handler raises while it waits
            with Interrupts(lambda: "Stopped.") as interrupts, interrupts.deferred():
                running = {attempt.remote(work, name, task): name for name, task in tasks.items()}
                while running:
                    done, _ = ray.wait([*running], num_returns=1, timeout=_LOOK_SECONDS)
                    if interrupts.requested is not None:
                        raise interrupts.error()
                    for reference in done:
                        yield _outcome(ray, reference, running.pop(reference))
        finally:
            ray.shutdown()


class _StoppedError(Exception):
    """A worker was told to stop. Ray retries Exceptions alone."""


def has_ray() -> bool:
    """Whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


def _load_ray() -> Any:
    if not has_ray():
        raise SettingsError("Ray is not installed, and --ray needs it", hint=_INSTALL)
    import ray

    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address)
    except Exception as error:  # Ray raises built-in exceptions if it cannot start
        hint = "Give the address of a running cluster, auto for this machine's cluster, or local to start one here."
        raise SettingsError(f"ray is {address!r}: {(str(error) or type(error).__name__).splitlines()[0]}", hint=hint) from error


def _outcome(ray: Any, done: Any, name: str) -> Outcome:
    try:
        outcome: Outcome = ray.get(done)
    except ray.exceptions.RayError as error:
        return Outcome(name, f"its worker was lost {_MAX_RETRIES + 1} times: {str(error).splitlines()[0]}")
    return outcome


def _remote_attempt(work: Callable[[T], None], name: str, task: T) -> Outcome:
    try:
        return _attempt(work, name, task)
    except Interrupted as stop:
        raise _StoppedError(stop.text) from None


def _attempt(work: Callable[[T], None], name: str, task: T) -> Outcome:
    """Errors concern only this task; a request to stop concerns all tasks."""
    try:
        work(task)
    except DreamboothError as error:
        return Outcome(name, error.text)
    except Exception as error:  # after any error, the other tasks can still run
        return Outcome(name, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(name)
