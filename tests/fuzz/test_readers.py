"""Damaged files are refused in our words or read soundly: a few of each kind here, 60 seconds of them in CI."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.readers import Reader, make_readers


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return make_readers(tmp_path_factory.mktemp("fuzz"))


def test_a_few_damaged_files_of_every_kind(readers: dict[str, Reader]) -> None:
    files = {name: reader for name, reader in readers.items() if not name.startswith("web: ")}
    findings = fuzz(files, range(12), seed=0)
    assert findings.wrong == []
    assert findings.refused.total() > 100 and findings.read.total() > 20


def test_no_page_breaks_on_a_damaged_file_of_the_browser_interface(readers: dict[str, Reader]) -> None:
    findings = fuzz({name: reader for name, reader in readers.items() if name.startswith("web: ")}, range(4), seed=0)
    assert findings.wrong == []
    assert findings.refused.total() > 4 and findings.read.total() > 10


@pytest.mark.slow
def test_a_minute_of_damaged_files(readers: dict[str, Reader]) -> None:
    findings = fuzz(readers, itertools.count(), seed=1, until=time.monotonic() + 60)
    assert findings.wrong == []
