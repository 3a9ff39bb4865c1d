"""Where platforms and tokens are kept: a file that its owner alone may read.

`$XDG_CONFIG_HOME/taskmill/profiles.json`, mode 0600 in a directory of mode 0700. A token goes to
the URL that it was stored with and to no other.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.reading import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One platform and what it is used with."""

    url: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """What the file holds."""

    current: str = ""
    known: dict[str, Profile] = field(default_factory=dict)

    def named(self, name: str) -> Profile:
        """Give one.

        Raises:
            Refusal: there is none of this name.
        """
        if name not in self.known:
            hint = nearest(name, self.known) or "`taskmill profile list` lists them"
            raise Refusal(f"there is no profile {name!r}", hint=hint)
        return self.known[name]


def variable(name: str) -> str:
    """Read a variable of the environment; empty where it is not set."""
    return os.environ.get(name, "")  # noqa: TID251 - this module reads it for the command


def directory(kind: str, below_home: str) -> Path:
    """Give the directory of this program in one of XDG's (`CONFIG`, `CACHE`)."""
    base = variable(f"XDG_{kind}_HOME")
    root = Path(base) if base.startswith("/") else Path.home() / below_home
    return root / "taskmill"


def profiles_path() -> Path:
    """Give the path of the file."""
    return directory("CONFIG", ".config") / "profiles.json"


def read_profiles() -> Profiles:
    """Read the file; where there is none, there are no profiles.

    Raises:
        Refusal: it cannot be read or is damaged.
    """
    path = profiles_path()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {
            str(name): Profile(url=str(one["url"]), token=str(one["token"]))
            for name, one in found["profiles"].items()
        }
        return Profiles(current=str(found.get("current", "")), known=known)
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise Refusal(message, code=ExitCode.OTHER) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{path} is damaged", hint="mend or delete it", code=ExitCode.OTHER
        ) from error


def write_profiles(profiles: Profiles) -> Path:
    """Write the file anew, readable by its owner alone, whole or not at all.

    Raises:
        Refusal: the disk says no.
    """
    path = profiles_path()
    body: dict[str, Any] = {
        "current": profiles.current,
        "profiles": {
            name: {"url": one.url, "token": one.token} for name, one in profiles.known.items()
        },
    }
    try:
        write_privately(path, json.dumps(body, indent=2) + "\n")
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise Refusal(message, code=ExitCode.OTHER) from error
    return path


def write_privately(path: Path, text: str) -> None:
    """Write a file of mode 0600 by renaming a finished one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_open_to_others() -> bool:
    """Say whether others than the owner may read the file."""
    try:
        mode = profiles_path().stat().st_mode
    except OSError:
        return False
    return bool(stat.S_IMODE(mode) & 0o077)
