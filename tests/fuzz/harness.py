"""Damages sound files again and again, and reads them: each is refused in our words or read soundly, and quickly.

python -m tests.fuzz --seconds 600 --seed 3
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dreambooth.errors import DreamboothError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

LONGEST_MESSAGE = 40_000  # characters: a hundred problems
SLOWEST = 10.0  # seconds; every file here is read in milliseconds


@dataclass
class Findings:
    """What happened to the damaged files of each reader."""

    refused: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What must not happen: another exception, another content, an endless message, a hang."""

    def table(self) -> str:
        """Counts by reader."""
        names = sorted({*self.refused, *self.read})
        rows = [f"{name:40} {self.refused[name]:8} {self.read[name]:8}" for name in names]
        total = f"{'all':40} {self.refused.total():8} {self.read.total():8}"
        return "\n".join([f"{'reader':40} {'refused':>8} {'read':>8}", *rows, total])


def fuzz(readers: dict[str, Reader], numbers: Iterable[int], *, seed: int, until: float | None = None) -> Findings:
    """Damage every reader's file once for every number, until a time on the monotonic clock if given.

    Damage depends on the seed, the reader and the number alone, so that what is found can be repeated.
    """
    findings = Findings()
    sound = {name: (reader.path.read_bytes(), reader.read()) for name, reader in readers.items()}
    for number in numbers:
        for name, reader in readers.items():
            if until is not None and time.monotonic() > until:
                return findings
            data, content = sound[name]
            changed = mutated(data, random.Random(f"{seed} {name} {number}"))
            if changed == data:
                continue
            reader.path.write_bytes(changed)
            try:
                _try(name, f"{name}, seed {seed}, number {number}", reader, content, findings)
            finally:
                reader.path.write_bytes(data)
    return findings


def _try(name: str, which: str, reader: Reader, content: object, findings: Findings) -> None:
    start = time.monotonic()
    try:
        found = reader.read()
    except DreamboothError as error:
        findings.refused[name] += 1
        if len(error.text) > LONGEST_MESSAGE:
            findings.wrong.append(f"{which}: a message of {len(error.text):,} characters")
    except Exception as error:
        findings.wrong.append(f"{which}: {type(error).__name__}: {str(error)[:300]}")
    else:
        is_refused = found is None or found is False
        (findings.refused if is_refused else findings.read)[name] += 1
        if reader.is_exact and not is_refused and found not in (content, []):
            findings.wrong.append(f"{which}: other content was accepted")
    if (seconds := time.monotonic() - start) > SLOWEST:
        findings.wrong.append(f"{which}: took {seconds:.0f} s")
