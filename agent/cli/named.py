"""What people name by the first digits of its id, or by its name: requests, consents, agencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.errors import Refused
from agent.operations import Operation

if TYPE_CHECKING:
    from agent.cli.client import Client
    from agent.consent.charter import Agency, Charter

SHORT: Final = 16


def short(name: object) -> str:
    """An id as lists show it, enough to name it by."""
    return str(name).removeprefix("sha256:")[:SHORT]


def pick(found: list[dict[str, Any]], wanted: str, what: str, hint: str) -> dict[str, Any]:
    """The one whose id begins with what was typed.

    Raises:
        Refused: None does, or several do.
    """
    digits = wanted.removeprefix("sha256:").lower()
    matching = [each for each in found if str(each["id"]).removeprefix("sha256:").startswith(digits)]
    if len(matching) != 1 or not digits:
        many = "several begin" if matching else "none begins"
        raise Refused(f"{what} {wanted}: {many} with that", reason="unknown", hint=hint)
    return matching[0]


def requests_of(client: Client) -> list[dict[str, Any]]:
    """What agencies have asked, as the device lists it."""
    result, _ = client.door.call(Operation.REQUESTS)
    found = result.get("requests")
    return found if isinstance(found, list) else []


def picked_token(client: Client, token_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A consent by the first digits of its id, and all that the device says beside its consents.

    Raises:
        Refused: There is none, or several.
    """
    result, _ = client.door.call(Operation.CONSENTS)
    tokens = result.get("tokens")
    found = tokens if isinstance(tokens, list) else []
    return pick(found, token_id, "consent", "see 'doorward consent list'"), result


def agency_named(current: Charter, name: str) -> Agency:
    """An agency of the charter, by name or key id.

    Raises:
        Refused: It has none of that name, or several.
    """
    matching = [each for each in current.agencies if name in (each.name, each.key_id)]
    if len(matching) != 1:
        known = ", ".join(each.name for each in current.agencies) or "none"
        raise Refused(
            f"agency {name}: not in your charter (there is {known})",
            reason="unknown",
            hint="take one in first: doorward charter add-agency CARD",
        )
    return matching[0]
