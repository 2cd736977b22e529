"""Tasks that need nothing of each other, done one by one here or spread over GPUs and machines by Ray, behind one seam.

A failed task is reported at its turn and the others continue. A task whose worker is lost is started again elsewhere: it
must go on from what it has written, in folders that all machines share.
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
_LOOK_SECONDS = 1.0  # how often it is looked whether somebody asked to stop
_INSTALL = "Install it with: pip install 'dreambooth[ray]'"


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    name: str
    error: str | None = None
    """None when it was done; else what went wrong, for people."""
    traceback: str | None = None
    """Where it went wrong, for errors that are no mistakes of a user."""


class Workers(Protocol):
    """What does the tasks."""

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """Do `work` with every task, whose names are the keys; their outcomes as they end. The caller closes the iterator.

        `work` is a function of a module, and tasks can be pickled: they may travel to another machine. Raises Interrupted
        when somebody asks the work to stop.
        """


@dataclass(frozen=True)
class InThisProcess:
    """One after the other, here."""

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """See `Workers.outcomes`."""
        for name, task in tasks.items():
            yield _attempt(work, name, task)


@dataclass(frozen=True)
class OverRay:
    """Over the GPUs of a Ray cluster, or of this machine when the address is `local`: one GPU for each task."""

    address: str | None
    """Of a running cluster, or `auto` for the one that this machine belongs to; None starts Ray on this machine."""
    needs_gpu: bool = True

    def outcomes(self, work: Callable[[T], None], tasks: Mapping[str, T]) -> Generator[Outcome, None, None]:
        """See `Workers.outcomes`.

        Raises SettingsError when Ray is not installed, nothing answers at the address, or no GPU is there.
        """
        ray = _load_ray()
        try:
            _connect(ray, self.address or _LOCAL)
            if self.needs_gpu and not ray.cluster_resources().get("GPU"):
                raise SettingsError("Ray found no GPU, and each subject needs one", hint="To work without a GPU: --device cpu")
            attempt = ray.remote(_attempt).options(
                num_gpus=1 if self.needs_gpu else 0, max_retries=_MAX_RETRIES, retry_exceptions=[Interrupted]
            )
            # Ray sets a handler of its own for signals, and aborts when a handler raises while it waits
            with Interrupts(lambda: "Stopped.") as interrupts, interrupts.deferred():
                running = {attempt.remote(work, name, task): name for name, task in tasks.items()}
                while running:
                    done, _ = ray.wait([*running], num_returns=1, timeout=_LOOK_SECONDS)
                    if interrupts.requested is not None:
                        raise interrupts.error()
                    for one in done:
                        yield _outcome(ray, one, running.pop(one))
        finally:
            ray.shutdown()


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
    except Interrupted:
        raise
    except Exception as error:  # Ray raises plain ones where it cannot start
        hint = "Give the address of a running cluster, auto for this machine's cluster, or local to start one here."
        raise SettingsError(f"ray is {address!r}: {(str(error) or type(error).__name__).splitlines()[0]}", hint=hint) from error


def _outcome(ray: Any, done: Any, name: str) -> Outcome:
    try:
        found: Outcome = ray.get(done)
    except ray.exceptions.RayError as error:
        return Outcome(name, f"its worker was lost {_MAX_RETRIES + 1} times: {str(error).splitlines()[0]}")
    return found


def _attempt(work: Callable[[T], None], name: str, task: T) -> Outcome:
    """Whatever goes wrong concerns this task; being asked to stop concerns all."""
    try:
        work(task)
    except Interrupted:
        raise
    except DreamboothError as error:
        return Outcome(name, error.text)
    except Exception as error:  # whatever it is, the other tasks can be done
        return Outcome(name, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(name)
