"""The household's standing limits: a closed vocabulary that can only narrow.

``deny`` says no; ``cap`` lowers seconds, height, frames a second or viewers; ``require`` says no unless the
alarm is on. Each applies ``when`` all of its conditions hold (an empty ``when`` always holds). Nothing in
here can allow what a token does not, so rules bind whatever a token says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.consent.fields import Fields, choice_item, key_id_item
from agent.errors import DocumentError

UNLIMITED: Final = 2**31


class Effect(StrEnum):
    """What a rule does when its conditions hold."""

    DENY = "deny"
    CAP = "cap"
    REQUIRE_ALARM = "require-alarm"


class PurposeKind(StrEnum):
    """Why an agency looks."""

    INCIDENT = "incident"
    STANDING = "standing"
    DRILL = "drill"


class Mode(StrEnum):
    """What is asked for: the live picture, or recorded footage."""

    LIVE = "live"
    FOOTAGE = "footage"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rule's conditions are held against."""

    agency: str
    purpose: PurposeKind
    mode: Mode
    alarm: bool


@dataclass(frozen=True, slots=True)
class Caps:
    """Upper bounds; each rule can only lower them."""

    seconds: int = UNLIMITED
    height: int = UNLIMITED
    fps: int = UNLIMITED
    viewers: int = UNLIMITED

    def lowered(self, other: Caps) -> Caps:
        """The narrower of both in every respect."""
        return Caps(
            min(self.seconds, other.seconds),
            min(self.height, other.height),
            min(self.fps, other.fps),
            min(self.viewers, other.viewers),
        )


@dataclass(frozen=True, slots=True)
class When:
    """Conditions; a field that is empty or None does not restrict. All must hold."""

    agencies: tuple[str, ...] = ()
    purposes: tuple[PurposeKind, ...] = ()
    modes: tuple[Mode, ...] = ()
    alarm: bool | None = None

    def holds(self, situation: Situation) -> bool:
        """Whether every condition holds."""
        return (
            (not self.agencies or situation.agency in self.agencies)
            and (not self.purposes or situation.purpose in self.purposes)
            and (not self.modes or situation.mode in self.modes)
            and (self.alarm is None or situation.alarm == self.alarm)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One standing limit."""

    effect: Effect
    when: When
    caps: Caps

    @classmethod
    def parse(cls, value: object, where: str) -> Rule:
        """Read a rule of a charter.

        Raises:
            DocumentError: A word outside the vocabulary, or a cap that caps nothing.
        """
        fields = Fields(value, where)
        effect = fields.choice("effect", Effect)
        when = fields.record("when", _when) if fields.has("when") else When()
        caps = Caps()
        if effect is Effect.CAP:
            caps = Caps(
                **{
                    name: fields.integer(name, 1, UNLIMITED - 1)
                    for name in ("seconds", "height", "fps", "viewers")
                    if fields.has(name)
                }
            )
            if caps == Caps():
                raise DocumentError(f"{where}: caps nothing (expected seconds, height, fps or viewers)")
        fields.done()
        return cls(effect, when, caps)

    def to_json(self) -> dict[str, object]:
        """As it stands in a charter."""
        value: dict[str, object] = {"effect": str(self.effect)}
        when: dict[str, object] = {}
        if self.when.agencies:
            when["agencies"] = list(self.when.agencies)
        if self.when.purposes:
            when["purposes"] = [str(purpose) for purpose in self.when.purposes]
        if self.when.modes:
            when["modes"] = [str(mode) for mode in self.when.modes]
        if self.when.alarm is not None:
            when["alarm"] = self.when.alarm
        if when:
            value["when"] = when
        for name in ("seconds", "height", "fps", "viewers"):
            if getattr(self.caps, name) != UNLIMITED:
                value[name] = getattr(self.caps, name)
        return value


def _when(value: object, where: str) -> When:
    fields = Fields(value, where)
    when = When(
        fields.items("agencies", key_id_item, most=64) if fields.has("agencies") else (),
        fields.items("purposes", choice_item(PurposeKind), most=3) if fields.has("purposes") else (),
        fields.items("modes", choice_item(Mode), most=2) if fields.has("modes") else (),
        fields.boolean("alarm") if fields.has("alarm") else None,
    )
    fields.done()
    return when
