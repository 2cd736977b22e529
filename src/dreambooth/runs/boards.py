"""Where the numbers of a run are also sent: TensorBoard, Weights & Biases, both or neither. Each library is loaded on use."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dreambooth.errors import RunError, SettingsError
from dreambooth.files import write_text
from dreambooth.reading import printable, read_text
from dreambooth.runs.folder import RunFolder

__all__ = ["Board", "Boards", "TensorBoard", "WandbBoard", "check_boards", "open_boards"]


class Board(Protocol):
    """Takes numbers by step."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point for every name."""

    def close(self) -> None:
        """Flush and close."""


@dataclass(frozen=True)
class Boards:
    """Several boards, or none."""

    boards: Sequence[Board] = ()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point for every name, on every board."""
        for board in self.boards:
            board.add(step, values)

    def close(self) -> None:
        """Flush and close them all."""
        for board in self.boards:
            board.close()


class TensorBoard:
    """Writes numbers through torch's SummaryWriter."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """See `Board`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Board`."""
        self._writer.close()


class WandbBoard:
    """Sends numbers to Weights & Biases; a resumed run goes on with the same one there, whose id lies in the run folder."""

    def __init__(self, run: RunFolder, project: str, settings: Mapping[str, Any]) -> None:
        """`settings` are shown beside the numbers. Raises RunError when the service refuses."""
        import wandb

        run.wandb.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                project=project,
                name=run.path.absolute().name,
                id=_id(run.wandb / "id.txt"),
                resume="allow",
                dir=str(run.wandb),
                config=dict(settings),
                settings=wandb.Settings(silent=True),
            )
        except Exception as error:  # the library raises many kinds
            reason = printable(str(error).partition("\n")[0])
            raise RunError(
                f"Weights & Biases could not start ({type(error).__name__}: {reason})",
                hint="Log in with `wandb login`, set WANDB_MODE=offline to send the numbers later, or omit --wandb.",
            ) from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """See `Board`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Board`."""
        self._run.finish()


def check_boards(*, tensorboard: bool, wandb: str | None) -> None:
    """Raise SettingsError for every board whose library is not installed."""
    wanted = {"tensorboard": tensorboard, "wandb": wandb is not None}
    missing = [name for name, is_wanted in wanted.items() if is_wanted and importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            [f"{name} is on, but its package is not installed" for name in missing],
            hint=f"Type: pip install {' '.join(missing)}",
        )


def open_boards(run: RunFolder, *, tensorboard: bool, wandb: str | None, settings: Mapping[str, Any]) -> Boards:
    """The boards of a run; `wandb` is the name of its project there. Raises RunError when Weights & Biases refuses."""
    boards: list[Board] = [TensorBoard(run.tensorboard)] if tensorboard else []
    return Boards([*boards, WandbBoard(run, wandb, settings)] if wandb is not None else boards)


def _id(path: Path) -> str:
    """The id of a run at the service, kept in a file of the run folder."""
    if not path.is_file():
        write_text(path, f"{secrets.token_hex(8)}\n")
    return read_text(path).strip()
