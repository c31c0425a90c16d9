from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture
def lax_broker(tmp_path: Path) -> Iterator[Broker]:
    """A post that enforces no limits of its own."""
    with Broker(tmp_path, enforcing=False) as running:
        yield running
