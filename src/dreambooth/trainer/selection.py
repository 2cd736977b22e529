"""Model selection by the scores that the run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dreambooth.errors import RunError
from dreambooth.files import link_or_copy
from dreambooth.measures.balance import Balance, best, has_passed_peak, smoothed
from dreambooth.measures.settings import SelectionSettings
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.trainees.with_word import word_beside
from dreambooth.weights.read import read_model

if TYPE_CHECKING:
    from dreambooth.trainer.session import Session


__all__ = ["check_best_is_there", "peak_has_passed", "put_back_model", "put_chosen_model", "what_was_chosen"]


def peak_has_passed(session: Session) -> bool:
    """Whether training should stop early at this step, by the scores so far; False for a step without scores."""
    chosen, step = session.ready.measured.selection, session.state.step
    if chosen.early_stop_margin is None:
        return False
    history = _history(session.ready.run, step)
    values = {at: one.value for at, one in history.items()}
    return step in values and has_passed_peak(values, margin=chosen.early_stop_margin, patience=chosen.early_stop_patience)


def put_back_model(session: Session) -> None:
    """Rewrite the model of the restored step if it should exist and does not; all processes call this together."""
    ready, step = session.ready, session.state.step
    if session.due.scores or step >= ready.loop.steps:
        model = ready.run.model_at(step)
        if ready.processes.any(ready.processes.is_main and not model.is_file()):
            session.write_model(model)


def check_best_is_there(run: RunFolder, chosen: SelectionSettings, *, last: int) -> None:
    """Raise RunError when the best model of the steps up to `last` is selected but does not exist.

    The model of step `last` itself may be missing: its weights are in the checkpoint, see `put_back_model`.
    """
    peak = _wanted_step(run, chosen, last)
    if peak == last or run.model_at(peak).is_file():
        return
    final = run.final_model
    is_final = final.is_file() and read_model(str(final)).num_steps == peak
    where = f"Copy {final} there (it is the same model)" if is_final else "Restore it"
    raise RunError(f"{run.model_at(peak)}: no such file; it was the run's best model", hint=f"{where}, or use --select last.")


def put_chosen_model(session: Session) -> None:
    """Make the model of the selected step, the last or the best, the final one. All processes call this together.

    Raises RunError when the best step's model no longer exists.
    """
    run = session.ready.run
    with session.ready.processes.together():
        if session.ready.processes.is_main:
            check_best_is_there(run, session.ready.measured.selection, last=session.state.step)
            _make_final(run, _chosen_step(session))


def _make_final(run: RunFolder, step: int) -> None:
    """The model of a step, and the word that was learned together with it, become the final ones; the word first, as always."""
    chosen = run.model_at(step)
    if (word := word_beside(chosen)).is_file():
        word_beside(run.final_model).parent.mkdir(exist_ok=True)
        link_or_copy(word, word_beside(run.final_model))
    link_or_copy(chosen, run.final_model)


def what_was_chosen(session: Session) -> dict[str, Any]:
    """The selected step, the best step, the balances by step, and a sentence about them; empty if nothing was scored."""
    run, last = session.ready.run, session.state.step
    history = _history(run, last)
    if not history:
        return {}
    values, subjects = smoothed(_values(history)), _balances_of_subjects(run, last)
    peak, chosen = best(_values(history)), _chosen_step(session)
    of_subjects = {name: balances[peak] for name, balances in subjects.items() if peak in balances}
    of_peak = (
        f"step {peak}, with {_in_words(history[peak], of_subjects)}; averaged with its neighbors, {values[peak]:.3f}, the "
        f"highest of {len(history)} scored steps"
    )
    of_last = f" (last step, {last}: {values[last]:.3f})" if last in values and last != peak else ""
    if chosen == peak:
        text = f"The final model is from {of_peak}{of_last}. The others are in {run.model_at(peak).parent}"
    else:
        text = f"The final model is from the last step, {last}. The best-scored is {of_peak}{of_last}: {run.model_at(peak)}"
    base = _balance_of_base(run)
    if base is not None and values[peak] <= base:
        text += (
            f". No scored step is above the base model's {base:.3f}: by these scores, what was gained on the "
            f"{'subjects' if subjects else 'subject'} does not outweigh what was lost on prompts and class"
        )
    found: dict[str, Any] = {"chosen": chosen, "best": peak, "text": text, "balances": _by_step_text(_values(history))}
    if subjects:
        found["subjects"] = {name: _by_step_text(balances) for name, balances in subjects.items()}
    return found


def _chosen_step(session: Session) -> int:
    return _wanted_step(session.ready.run, session.ready.measured.selection, session.state.step)


def _wanted_step(run: RunFolder, chosen: SelectionSettings, last: int) -> int:
    history = _history(run, last)
    return best(_values(history)) if chosen.select == "best" and history else last


def _history(run: RunFolder, last: int) -> dict[int, Balance]:
    """The balances of the scored steps up to step `last`, without the base model's."""
    events = [event for event in read_events(run.events) if event["event"] == "evaluation" and 0 < event["step"] <= last]
    return {one["step"]: Balance(one["balance"], one["fidelity"], one["prompt"], one["prior"]) for one in events}


def _balances_of_subjects(run: RunFolder, last: int) -> dict[str, dict[int, float]]:
    """The balances of each of several subjects, by scored step up to `last`; empty for a run with one subject."""
    found: dict[str, dict[int, float]] = {}
    for event in read_events(run.events):
        if event["event"] == "evaluation" and 0 < event["step"] <= last:
            for name, one in event.get("subjects", {}).items():
                found.setdefault(name, {})[event["step"]] = one["balance"]
    return found


def _by_step_text(balances: Mapping[int, float]) -> dict[str, float]:
    return {str(step): value for step, value in balances.items()}


def _values(history: Mapping[int, Balance]) -> dict[int, float]:
    return {step: one.value for step, one in history.items()}


def _balance_of_base(run: RunFolder) -> float | None:
    """The balance before the first step; None if it was not recorded."""
    events = (event for event in read_events(run.events) if event["event"] == "evaluation" and event["step"] == 0)
    return next((float(event["balance"]) for event in events), None)


def _in_words(found: Balance, subjects: Mapping[str, float]) -> str:
    parts = {"fidelity": found.fidelity, "prompt": found.prompt, "prior": found.prior}
    said = (
        ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if value is not None),
        ", ".join(f"{name} {value:.3f}" for name, value in subjects.items()),
    )
    what = f"a mean balance of {len(subjects)} subjects of" if subjects else "a balance of"
    return f"{what} {found.value:.3f} ({'; '.join(filter(None, said))})"
