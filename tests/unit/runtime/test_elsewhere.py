"""Work in a process of its own."""

from __future__ import annotations

import os

from dreambooth.runtime.elsewhere import in_another_process


def test_what_another_process_found_comes_back() -> None:
    assert in_another_process(len, [1, 2]) == 2
    assert in_another_process(eval, "__import__('os').getpid()") != os.getpid()
