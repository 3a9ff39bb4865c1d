"""The bodies of requests about schedules, and what they mean to the services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from scheduler.decisions import MAX_CATCH_UP, CatchUp, Overlap, Spread
from scheduler.errors import InvalidRule
from scheduler.models import Status
from scheduler.sun import SolarEvent
from scheduler.writing import MAX_WINDOW_SECONDS, Policies, Solar, Timing, Wanted
from tasks_app.rest import Instant, Strict, SubmissionOptions, Text

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199


def _near(at: datetime) -> datetime:
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise PydanticCustomError("instant_range", "write an instant of the years 1970 to 2199")
    return at


At = Annotated[Instant, AfterValidator(_near)]
Key = Annotated[Text, Field(min_length=1, max_length=100)]
TypeName = Annotated[Text, Field(min_length=1, max_length=100)]
Description = Annotated[Text, Field(max_length=2000)]
Reason = Annotated[Text, Field(max_length=450)]
CronText = Annotated[Text, Field(min_length=1, max_length=400)]
OverlapName = Literal["allow", "skip", "queue_one", "cancel_previous"]
CatchUpName = Literal["skip", "last", "all"]
SpreadName = Literal["none", "stable", "jitter"]
CatchUpMost = Annotated[int, Field(ge=1, le=MAX_CATCH_UP)]
SpreadSeconds = Annotated[int, Field(ge=0, le=MAX_WINDOW_SECONDS)]
ExpireSeconds = Annotated[int, Field(ge=1, le=31_536_000)]
Failures = Annotated[int, Field(ge=1, le=1000)]
OutcomeName = Literal["fired", "skipped", "missed", "waiting", "publishing"]
StatusName = Literal["active", "paused", "ended", "retired", "broken"]
STATUSES: Final = [one.value for one in Status]
_KINDS: Final = ("cron", "interval_seconds", "once_at", "solar")
_TIMING: Final = (*_KINDS, "timezone", "start_at", "end_at")
_POLICIES: Final[Mapping[str, Any]] = {
    name: getattr(Policies(), name) for name in Policies.__slots__
}
_ENUMS: Final[Mapping[str, Any]] = {"overlap": Overlap, "catch_up": CatchUp, "spread": Spread}


class SolarBody(Strict):
    """An event of the sun at a place."""

    event: SolarEvent = Field(description="Rising, setting, noon, or the edge of a twilight.")
    latitude: float = Field(ge=-90, le=90, description="Degrees, north positive.")
    longitude: float = Field(ge=-180, le=180, description="Degrees, east positive.")


class ScheduleOptions(SubmissionOptions):
    """What holds for each task of the schedule; as in a submission, without `run_at`."""

    @model_validator(mode="after")
    def _no_run_at(self) -> ScheduleOptions:
        if self.run_at is not None:
            raise PydanticCustomError(
                "unsupported", "a schedule's instants say when it runs", {"field": "run_at"}
            )
        return self


class TimingBody(Strict):
    """When something is due: one of `cron`, `interval_seconds`, `once_at` and `solar`."""

    cron: CronText | None = Field(None, description="Five fields, such as `0 7 * * MON-FRI`.")
    timezone: Annotated[Text, Field(max_length=64)] = Field("UTC", description="IANA name.")
    interval_seconds: float | None = Field(None, description="1 second to 366 days.")
    once_at: At | None = None
    solar: SolarBody | None = None
    start_at: At | None = Field(None, description="Nothing is due before; intervals count from it.")
    end_at: At | None = Field(None, description="Nothing is due from then on.")

    def timing(self) -> Timing:
        """Give what is meant."""
        solar = None if self.solar is None else Solar(**self.solar.model_dump())
        values = {name: getattr(self, name) for name in _TIMING}
        return Timing(**(values | {"solar": solar}))


class PreviewBody(TimingBody):
    """A timing of which the next instants are wanted."""

    count: Annotated[int, Field(ge=1, le=100)] = 5
    after: At | None = Field(None, description="Where to begin; now where it is left out.")


class NewSchedule(TimingBody):
    """A schedule to be made."""

    key: Key = Field(description="Its name, unique within the tenant.")
    type: TypeName = Field(description="Type of its tasks.")
    payload: Any = None
    options: ScheduleOptions = Field(default_factory=ScheduleOptions)
    description: Description = ""
    overlap: OverlapName = "allow"
    catch_up: CatchUpName = "last"
    catch_up_most: CatchUpMost = 10
    spread: SpreadName = "none"
    spread_seconds: SpreadSeconds = 0
    expire_seconds: ExpireSeconds | None = None
    pause_after_failures: Failures | None = None

    def wanted(self) -> Wanted:
        """Give what is meant."""
        return Wanted(
            key=self.key,
            task_type=self.type,
            timing=self.timing(),
            policies=_policies({name: getattr(self, name) for name in _POLICIES}, Policies()),
            payload=self.payload,
            options=_plain(self.options),
            description=self.description,
        )


class ScheduleChanges(Strict):
    """What to change: what is left out stays, null is the default. Another kind of timing takes the
    place of the one before; the key stays.
    """

    cron: CronText | None = None
    timezone: Annotated[Text, Field(max_length=64)] | None = None
    interval_seconds: float | None = None
    once_at: At | None = None
    solar: SolarBody | None = None
    start_at: At | None = None
    end_at: At | None = None
    type: TypeName | None = None
    payload: Any = None
    options: ScheduleOptions | None = None
    description: Description | None = None
    overlap: OverlapName | None = None
    catch_up: CatchUpName | None = None
    catch_up_most: CatchUpMost | None = None
    spread: SpreadName | None = None
    spread_seconds: SpreadSeconds | None = None
    expire_seconds: ExpireSeconds | None = None
    pause_after_failures: Failures | None = None

    def changes(self, known: Wanted) -> dict[str, Any]:
        """Give the changed fields of `Wanted`.

        Raises:
            InvalidRule: the type is taken away.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        found: dict[str, Any] = {}
        if given.keys() & set(_TIMING):
            found["timing"] = _timing(given, known.timing)
        if given.keys() & _POLICIES.keys():
            found["policies"] = _policies(given, known.policies)
        if "type" in given:
            if self.type is None:
                raise InvalidRule.of("type", "a schedule has a type")
            found["task_type"] = self.type
        if "payload" in given:
            found["payload"] = self.payload
        if "options" in given:
            found["options"] = _plain(self.options or ScheduleOptions())
        if "description" in given:
            found["description"] = self.description or ""
        return found


class PauseBody(Strict):
    """Why a schedule is paused."""

    reason: Reason = ""


class NoFields(Strict):
    """A body without fields."""


def _timing(given: Mapping[str, Any], known: Timing) -> Timing:
    values = {name: given[name] for name in _TIMING if name in given}
    if "timezone" in values:
        values["timezone"] = values["timezone"] or "UTC"
    if values.get("solar") is not None:
        values["solar"] = Solar(**values["solar"].model_dump())
    if any(values.get(name) is not None for name in _KINDS):
        values = dict.fromkeys(_KINDS) | values
    return replace(known, **values)


def _policies(given: Mapping[str, Any], known: Policies) -> Policies:
    values = {name: given[name] for name in _POLICIES if name in given}
    filled = {name: _POLICIES[name] if one is None else one for name, one in values.items()}
    return replace(
        known,
        **{name: _ENUMS[name](one) if name in _ENUMS else one for name, one in filled.items()},
    )


def _plain(options: SubmissionOptions) -> dict[str, Any]:
    found: dict[str, Any] = options.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
