"""Which platform a command talks to, and as whom.

Flags win over the environment, the environment over the profile in use. A stored token is sent
to the URL that it was stored with and to no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from taskmill_client import Client
from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.output import warn
from taskmill_client.cli.profiles import Profile, is_open_to_others, read_profiles, variable


@dataclass(slots=True)
class Choice:
    """What the global options say; set once, before the command runs."""

    url: str = ""
    profile: str = ""


CHOICE = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform, a token, and where they were found."""

    url: str
    token: str
    source: str


def platform() -> Platform:
    """Decide which platform is meant.

    Raises:
        Refusal: none is named, or it has no token.
    """
    found = _found()
    if not found.url:
        raise Refusal(
            "no platform is named",
            hint='set TASKMILL_URL and TASKMILL_TOKEN (here: eval "$(make -s env)"),'
            " or `taskmill login`",
        )
    if not found.token:
        raise Refusal(
            f"there is no token for {found.url}",
            hint="set TASKMILL_TOKEN, or store one with `taskmill login`",
            code=ExitCode.AUTHENTICATION,
        )
    return found


def _found() -> Platform:
    named = CHOICE.profile
    stored, source = _stored(named)
    if named and not CHOICE.url:
        return Platform(url=stored.url, token=stored.token, source=source)
    url, token = CHOICE.url or variable("TASKMILL_URL"), variable("TASKMILL_TOKEN")
    if not url and not token:
        return Platform(url=stored.url, token=stored.token, source=source)
    is_same = not url or url.rstrip("/") == stored.url.rstrip("/")
    where = "--url" if CHOICE.url else "environment"
    return Platform(
        url=url or stored.url, token=token or (stored.token if is_same else ""), source=where
    )


def _stored(named: str) -> tuple[Profile, str]:
    profiles = read_profiles()
    name = named or variable("TASKMILL_PROFILE") or profiles.current
    if not name:
        return Profile(url="", token=""), ""
    if is_open_to_others():
        warn("others may read the file of your profiles; `taskmill login` writes it anew")
    return profiles.named(name), f"profile {name}"


@cache
def client() -> Client:
    """Give the client of this run.

    Raises:
        Refusal: as `platform`.
    """
    chosen = platform()
    return Client(chosen.url, chosen.token)
