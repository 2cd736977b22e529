"""Commands that are killed again and again, and go on: `python -m tests.recipes.kill_and_resume --kills 1000 --seed 3`.

Everything is imported once; each attempt is a forked child. Half of the kills come at a random moment, half right before one of
the calls that change the disk: opening a file for writing, renaming, linking, removing, making and removing folders. With
`--fault full`, the disk is full instead from each of these calls on, one after the other; with `--fault read-only`, nothing
can be changed. What stands at the end must be what an undisturbed command leaves. No tensor is computed before the forks:
threads do not survive them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import transformers.models.clip.modeling_clip
import transformers.models.clip.tokenization_clip  # noqa: F401 - the recipes would load these in every child
from PIL import Image

from dreambooth.cli.main import main as dreambooth
from dreambooth.recipes import convert, generate, prior, train  # noqa: F401 - so that no child loads them
from tests.disk_changes import FAULTS, at_changes, failer, killer
from tests.recipes.killed_works import SHORT, WORKS, Inputs, Work, left_behind, use_quick_parts

PHOTOS = Path(__file__).parents[1] / "photos" / "backpack_dog"
DATASET = Path(__file__).parents[1] / "data" / "prompts_and_classes.txt"


@dataclass
class Attempts:
    """The attempts at one work, always in the same place, so that files which name their folder are equal."""

    work: Work
    inputs: Inputs
    folder: Path
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def place(self) -> Path:
        return self.folder / "place"

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")

    def attempt(self, prepare: Callable[[], None], kill_after: float | None = None) -> int | None:
        """One attempt in a child, which first calls `prepare`. Returns its exit code, None when it was killed."""
        arguments = self.work.arguments(self.inputs, self.place)
        start, child = time.monotonic(), os.fork()
        if child == 0:
            output = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = 70
            try:
                prepare()
                code = dreambooth(arguments)
            finally:
                sys.stdout.flush()
                os._exit(code)
        while kill_after is not None and time.monotonic() - start < kill_after:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return _code(status)
            time.sleep(0.003)
        if kill_after is not None:
            os.kill(child, signal.SIGKILL)
        return _code(os.waitpid(child, 0)[1])

    def finish(self) -> dict[str, str]:
        """Go on undisturbed until it is done. Returns what it left behind, and removes it."""
        code = 0 if self.work.is_done(self.place) else self.attempt(lambda: None)
        assert code == 0, f"exit code {code}\n{self.said}"
        found = left_behind(self.place, self.work)
        shutil.rmtree(self.place)
        return found

    def undisturbed(self) -> tuple[dict[str, str], int, float]:
        """What an undisturbed command leaves behind, the number of its changes to the disk, and its seconds."""
        counted = self.folder / "counted.txt"

        def count(_: str, number: int) -> None:
            counted.write_text(f"{number}\n" + "\n".join(sys.modules))

        start = time.monotonic()
        code = self.attempt(lambda: at_changes(self.place, count))
        seconds = time.monotonic() - start
        assert code == 0, f"exit code {code}\n{self.said}"
        num_changes, *modules = counted.read_text().splitlines()
        for module in modules:
            with suppress(Exception):  # a module that another one makes up has no file
                importlib.import_module(module)
        return self.finish(), int(num_changes), seconds


def _code(status: int) -> int | None:
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def kill(attempts: Attempts, *, num_kills: int, seed: str) -> None:
    """Kill the work until it died `num_kills` times, at random. Raises AssertionError for anything that is then different."""
    chance = random.Random(seed)
    expected, num_changes, seconds = attempts.undisturbed()
    while attempts.kills.total() < num_kills:
        trail: list[str] = []
        while attempts.kills.total() < num_kills and not attempts.work.is_done(attempts.place):
            if chance.random() < 0.5:
                number, moment = chance.randint(1, num_changes), None
                trail.append(f"change {number}")
                code = attempts.attempt(lambda: at_changes(attempts.place, killer(number)))  # noqa: B023 - called at once
            else:
                moment = chance.uniform(0, seconds)
                trail.append(f"{moment:.3f} s")
                code = attempts.attempt(lambda: None, kill_after=moment)
            if code is not None:
                assert code == 0, f"{trail}: exit code {code}\n{attempts.said}"
                break
            attempts.kills["at a moment" if moment is not None else "at a change"] += 1
        _compare(attempts.finish(), expected, f"seed {seed}, killed at {', '.join(trail)}")
        print(f"{attempts.kills.total()} of {num_kills} kills", file=sys.stderr, flush=True)


def disturb(attempts: Attempts, fault: str, *, stride: int) -> int:
    """Give every `stride`-th change to the disk, one after the other, an error that lasts; then go on.

    Returns how many commands ended with an error.
    """
    expected, num_changes, _ = attempts.undisturbed()
    num_errors = 0
    for number in range(1, num_changes + 1, stride):
        code = attempts.attempt(lambda: at_changes(attempts.place, failer(fault, number)))  # noqa: B023 - called at once
        num_errors += code != 0
        assert code in (0, 1, 2) and "Traceback" not in attempts.said, f"change {number}: exit code {code}\n{attempts.said}"
        assert code == 0 or "error" in attempts.said, f"change {number}: no message\n{attempts.said}"
        _compare(attempts.finish(), expected, f"{fault} from change {number} on")
        print(f"{number} of {num_changes} changes to the disk", file=sys.stderr, flush=True)
    return num_errors


def _compare(found: dict[str, str], expected: dict[str, str], how: str) -> None:
    names = {name for name in {*found, *expected} if found.get(name) != expected.get(name)}
    kinds = {name: "missing" if name not in found else "new" if name not in expected else "changed" for name in names}
    assert not kinds, f"{how}: {kinds}"


def prepare(folder: Path, model: Path) -> Inputs:
    """Write the inputs below `folder`; the run is trained in a child."""
    inputs = Inputs(
        model, PHOTOS, folder / "inputs" / "known" / "run", folder / "inputs" / "dataset", folder / "inputs" / "cutouts"
    )
    (inputs.dataset / "dog").mkdir(parents=True)
    shutil.copy(DATASET, inputs.dataset / "prompts_and_classes.txt")
    for number, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))):
        with Image.open(photo) as image:
            image.resize((64, 64)).save(inputs.dataset / "dog" / f"{number}.png")
    inputs.cutouts.mkdir()
    for number, size in enumerate([(80, 64), (64, 96), (120, 80)]):
        with Image.open(inputs.dataset / "dog" / f"{number}.png") as image:
            cutout = image.convert("RGBA").resize(size)
        cutout.putalpha(Image.linear_gradient("L").rotate(90 * number).resize(size))
        cutout.save(inputs.cutouts / f"{number}.png")
        (inputs.cutouts / f"{number}.txt").write_text(f"a sks backpack, number {number}\n")
    (inputs.dataset / "classes.txt").write_text("a {class_word}\na {class_word} outdoors\n")
    (inputs.dataset / "few.txt").write_text("a {token} {class_word}\na {token} {class_word} outdoors\n")
    (inputs.dataset / "benchmark.yaml").write_text(
        "views: {resolution: 64}\nprior: {num_prior_images: 2, prior_sampling_steps: 1}\noptimizer: {learning_rate: 1.0e-4}\n"
        "output: {checkpoint_steps: 1}\n"
    )
    first = Work(
        lambda inputs, place: (
            f"train --model {inputs.model} --photos {inputs.photos} --output {inputs.run} {SHORT} --model-steps 2"
        )
    )
    attempts = Attempts(first, inputs, folder)
    code = attempts.attempt(lambda: None)
    assert code == 0, attempts.said
    return inputs


def main() -> None:
    """Prints what was tried, work by work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each work")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--fault", choices=["kill", *FAULTS], default="kill")
    parser.add_argument("--stride", type=int, default=1, help="of the changes to the disk that a fault is tried at")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--model", type=Path, required=True, help="a small model file")
    given = parser.parse_args()
    use_quick_parts()
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepare(Path(folder), given.model.absolute())
        for name in given.works:
            attempts = Attempts(WORKS[name], inputs, Path(folder))
            if given.fault == "kill":
                kill(attempts, num_kills=given.kills, seed=f"{given.seed} {name}")
                counts = ", ".join(f"{count} {where}" for where, count in sorted(attempts.kills.items()))
                print(f"{name}: {attempts.kills.total()} kills ({counts})", flush=True)
            else:
                print(f"{name}: {disturb(attempts, given.fault, stride=given.stride)} errors, {given.fault}", flush=True)


if __name__ == "__main__":
    main()
