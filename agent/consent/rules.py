"""The household's standing limits: a closed vocabulary that can only narrow.

``deny`` says no; ``cap`` lowers seconds, height, frames a second or viewers; ``require-alarm`` says no unless
the alarm is on. Each applies ``when`` all of its conditions hold (an empty ``when`` always holds), ``unless``
all of those hold (without an ``unless``: always). Nothing in here can allow what a token does not, so rules
bind whatever a token says. Where the hour is not known for certain a rule applies: it could only narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.consent.fields import Fields, choice_item, key_id_item
from agent.consent.windows import Weekly
from agent.errors import DocumentError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from agent.consent.times import Interval

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
    alarm_surely: bool  # on at every moment that now may be
    alarm_maybe: bool  # on at some of them
    now: Interval
    zones: Mapping[str, dt.tzinfo]


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
    hours: Weekly | None = None

    def _is_about(self, situation: Situation) -> bool:
        return (
            (not self.agencies or situation.agency in self.agencies)
            and (not self.purposes or situation.purpose in self.purposes)
            and (not self.modes or situation.mode in self.modes)
        )

    def may_hold(self, situation: Situation) -> bool:
        """Whether every condition possibly holds."""
        alarm = situation.alarm_maybe if self.alarm else not situation.alarm_surely
        return (
            self._is_about(situation)
            and (self.alarm is None or alarm)
            and (self.hours is None or self.hours.may_hold(situation.now, situation.zones))
        )

    def surely_holds(self, situation: Situation) -> bool:
        """Whether every condition certainly holds."""
        alarm = situation.alarm_surely if self.alarm else not situation.alarm_maybe
        return (
            self._is_about(situation)
            and (self.alarm is None or alarm)
            and (self.hours is None or self.hours.holds_throughout(situation.now, situation.zones))
        )

    def seconds_as_it_is(self, situation: Situation, most: int, *, holding: bool) -> int:
        """How long the hour surely keeps it holding, or from holding; ``most`` where the hour has no say."""
        if self.hours is None or not self._is_about(situation):
            return most
        return self.hours.seconds_left(situation.now, most, situation.zones, holding=holding)

    def to_json(self) -> dict[str, object]:
        """As it stands in a charter."""
        value: dict[str, object] = {}
        if self.agencies:
            value["agencies"] = list(self.agencies)
        if self.purposes:
            value["purposes"] = [str(purpose) for purpose in self.purposes]
        if self.modes:
            value["modes"] = [str(mode) for mode in self.modes]
        if self.alarm is not None:
            value["alarm"] = self.alarm
        if self.hours is not None:
            value["hours"] = self.hours.to_json()
        return value


@dataclass(frozen=True, slots=True)
class Rule:
    """One standing limit."""

    effect: Effect
    when: When
    caps: Caps
    unless: When | None = None

    def applies(self, situation: Situation) -> bool:
        """Whether it narrows now; in doubt it does."""
        return self.when.may_hold(situation) and not (
            self.unless is not None and self.unless.surely_holds(situation)
        )

    def seconds_until_it_applies(self, situation: Situation, most: int) -> int:
        """For how long a rule that does not apply now surely stays so, as far as the hour decides."""
        if self.applies(situation):
            return 0
        if not self.when.may_hold(situation):
            return self.when.seconds_as_it_is(situation, most, holding=False)
        return self.unless.seconds_as_it_is(situation, most, holding=True) if self.unless else most

    @classmethod
    def parse(cls, value: object, where: str) -> Rule:
        """Read a rule of a charter.

        Raises:
            DocumentError: A word outside the vocabulary, or a cap that caps nothing.
        """
        fields = Fields(value, where)
        effect = fields.choice("effect", Effect)
        when = fields.record("when", _when) if fields.has("when") else When()
        unless = fields.record("unless", _when) if fields.has("unless") else None
        if unless == When():
            raise DocumentError(f"{where}.unless: no condition, so the rule would never apply")
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
        return cls(effect, when, caps, unless)

    def to_json(self) -> dict[str, object]:
        """As it stands in a charter."""
        value: dict[str, object] = {"effect": str(self.effect)}
        if self.when != When():
            value["when"] = self.when.to_json()
        if self.unless is not None:
            value["unless"] = self.unless.to_json()
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
        fields.record("hours", Weekly.parse) if fields.has("hours") else None,
    )
    fields.done()
    return when
