"""`python -m tests.fuzz --seconds 600 --seed 3`: damage files for a while, then print counts and what went wrong."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.harness import fuzz
from tests.fuzz.readers import make_readers


def main() -> int:
    """Returns 1 when something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        until = time.monotonic() + given.seconds
        findings = fuzz(make_readers(Path(folder)), itertools.count(), seed=given.seed, until=until)
    print(findings.table(), *findings.wrong, sep="\n")
    return int(bool(findings.wrong))


if __name__ == "__main__":
    sys.exit(main())
