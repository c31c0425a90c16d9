from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.agency import identity as identities
from agent.agency.conversation import Conversation
from agent.agency.introductions import find_device
from agent.cli.agency_options import Office
from hal.clock import wall_ns
from tests.agency.home import Household, in_charter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.agency.identity import Operator
    from agent.agency.introductions import KnownDevice


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A new agency with one operator, number 17."""
    with identities.found(tmp_path / "agency", "Agency of the tests") as store:
        identity = identities.load(store)
        identities.give_badge(store, identity, name="Operator", number="17", days=7, now_ns=wall_ns())
        yield Office(store, identity, Conversation(store, identity, wall_ns=wall_ns))


@pytest.fixture
def operator(office: Office) -> Operator:
    return identities.operator(office.store, office.identity, None, wall_ns())


@pytest.fixture
def household(office: Office) -> Household:
    """One owner, who has introduced the household to the agency."""
    return introduced(office, Household())


@pytest.fixture
def device(office: Office, household: Household) -> KnownDevice:
    return find_device(office.store, household.device)


def introduced(office: Office, household: Household) -> Household:
    charter = household.found(in_charter(office.identity))
    document = household.introduction(office.identity.key_id)
    office.store.put_introduction(charter.household, document, {}, wall_ns())
    return household
