"""Imports libraries without their output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_import"]


@contextmanager
def quiet_import() -> Iterator[None]:
    """Both libraries load optional packages (torchao, flash attention) that print messages on import."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
