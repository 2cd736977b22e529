"""Advice for a run whose loss or gradient is not finite, by its cause."""

from __future__ import annotations

from dreambooth.display import quoted
from dreambooth.trainer.session import Session
from dreambooth.training.checkpoints import find_checkpoints

__all__ = ["advice"]


def advice(session: Session, step: int) -> str:
    """What to do about the value at `step` that was not finite: the cause if it can be found, then the next command."""
    return _damaged_latents(session) or _other_settings(session, step)


def _damaged_latents(session: Session) -> str | None:
    moments = session.material.encoded.moments.values()
    damaged = sum(not bool(one.mean.isfinite().all() and one.deviation.isfinite().all()) for one in moments)
    if not damaged:
        return None
    folder = session.ready.run.path.absolute().parent / "latent-cache"
    return (
        f"{damaged} of {len(moments)} latents of the images are not finite. "
        f"Delete the folder of cached latents, {folder}, and start a new run with another --output."
    )


def _other_settings(session: Session, step: int) -> str:
    """A resumed run would repeat the step with the same settings and random numbers, so the advice is a new run."""
    ready = session.ready
    rate, precision = ready.setup.optimizer.rate, ready.policy.name
    again = f"dreambooth train --preset {quoted(ready.run.config)} --output ANOTHER_FOLDER"
    lines = []
    if checkpoints := find_checkpoints(ready.run):
        lines.append(f"The run is saved at step {checkpoints[-1].step}, but resuming would only reach the same value again.")
    fp32 = [] if precision == "fp32" else ["--precision fp32"]
    if step == 1:
        lines.append("No weight had been changed yet, so the learning rate is not the cause.")
        if not fp32:
            return "\n".join([*lines, "Use another --model, and start a new run with another --output."])
        flags = fp32
    else:
        flags = [f"--learning-rate {rate / 10:g}", "--max-gradient-norm 1", *fp32]
    lines.append(f"Start a new run with {' or '.join(flags)}, for example:\n  {again} {flags[0]}")
    return "\n".join(lines)
