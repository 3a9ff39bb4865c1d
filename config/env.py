"""The only reader of the environment: turns variables into validated, typed values.

Every fault is collected and reported in one `ConfigurationError`, each line naming the variable and
the fix. Where `DATABASE_URL`, `BROKER_URL` and `REDIS_URL` are unset, the embedded servers under
`var/` are meant (see `EmbeddedPaths`).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints
from urllib.parse import parse_qs, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
MAX_SOCKET_PATH = 90
OUR_PREFIX = "TASKMILL_"

T = TypeVar("T")


class EnvironmentFault(Exception):
    """The environment does not allow a start; each line names a variable and the fix."""


@dataclass(frozen=True, slots=True)
class EmbeddedPaths:
    """Where the embedded servers live: all derived from `TASKMILL_VAR`, so all processes agree."""

    var: Path

    @property
    def sockets(self) -> Path:
        """Directory of the unix sockets; below the temporary directory where `var` is too long."""
        near = self.var / "run"
        if len(str(near)) <= MAX_SOCKET_PATH:
            return near
        digest = hashlib.sha256(str(self.var).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"taskmill-{digest}"

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.var / "postgres"

    @property
    def valkey_data(self) -> Path:
        """Valkey's data directory."""
        return self.var / "valkey"

    @property
    def valkey_socket(self) -> Path:
        """Valkey's unix socket."""
        return self.sockets / "valkey.sock"

    @property
    def secret_key(self) -> Path:
        """File with the generated SECRET_KEY."""
        return self.var / "secret_key"

    @property
    def credentials(self) -> Path:
        """File with the first token and admin password."""
        return self.var / "credentials.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How mail leaves; the default throws it away.

    Attributes:
        backend: dotted path of Django's backend.
        has_starttls: whether the connection is encrypted after its first words.
        has_tls: whether it is encrypted from the beginning.
    """

    backend: str = "django.core.mail.backends.dummy.EmailBackend"
    host: str = "localhost"
    port: int = 25
    user: str = ""
    password: str = ""
    has_starttls: bool = False
    has_tls: bool = False


def _is_found(app: str) -> bool:
    """Say whether Python finds an app, written as its package or as its `AppConfig`."""
    package, _, last = app.rpartition(".")
    module = package if last[:1].isupper() else app
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            return False
        raise
    except ValueError:
        return False


_MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}


class Environment:
    """Reads variables, collects faults, and raises them together in `finish()`."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self.faults: list[str] = []
        self._read: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        """Give a variable's text, stripped."""
        self._read.add(name)
        return self._variables.get(name, "").strip() or default

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Give a comma-separated list."""
        raw = self.text(name)
        return tuple(word.strip() for word in raw.split(",") if word.strip()) if raw else default

    def apps(self, name: str) -> tuple[str, ...]:
        """Give a list of Django apps; one that Python does not find is a fault."""
        wanted = self.words(name)
        for app in wanted:
            if not _is_found(app):
                self.fault(
                    name,
                    f"{app!r} cannot be found; put its package beside manage.py, "
                    "or the directory above it into PYTHONPATH",
                )
        return tuple(app for app in wanted if _is_found(app))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a yes/no variable: 1, true, yes, on or 0, false, no, off."""
        raw = self.text(name).lower()
        if raw in {"1", "true", "yes", "on"}:
            return True
        if raw and raw not in {"0", "false", "no", "off"}:
            self.fault(name, f"{raw!r} is neither yes nor no; set it to 1 or 0")
        return default if not raw else False

    def path(self, name: str, default: Path) -> Path:
        """Give an absolute path."""
        raw = self.text(name)
        return Path(raw).expanduser().absolute() if raw else default

    def fault(self, name: str, fix: str) -> None:
        """Note what is wrong with a variable."""
        self.faults.append(f"{name}: {fix}")

    def settings(self, kind: type[T], *, prefix: str) -> T:
        """Build a frozen settings dataclass from `PREFIX_FIELD` variables, types checked."""
        hints = get_type_hints(kind)
        values: dict[str, Any] = {}
        for item in dataclasses.fields(kind):  # type: ignore[arg-type]  # T is always a dataclass here
            name = f"{prefix}{item.name}".upper()
            raw = self.text(name)
            if raw:
                values[item.name] = self._typed(name, raw, hints[item.name], item)
        return kind(**{key: value for key, value in values.items() if value is not None})

    def _typed(self, name: str, raw: str, hint: Any, item: dataclasses.Field[Any]) -> Any:
        if hint is str:
            return raw
        if hint is bool:
            return self.flag(name, default=bool(item.default))
        if hint == tuple[str, ...]:
            return self.words(name)
        try:
            value = hint(raw)
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            return self.fault(
                name, f"{raw!r} is not {kind}; unset it for the default {item.default}"
            )
        least, most = item.metadata.get("least"), item.metadata.get("most")
        if (least is not None and value < least) or (most is not None and value > most):
            return self.fault(
                name,
                f"{raw} is out of range; give {least} to {most}, or unset it for {item.default}",
            )
        return value

    def database(self, name: str, embedded: EmbeddedPaths) -> dict[str, Any]:
        """Give Django's database dictionary from a `postgresql://` URL, or the embedded one's."""
        url = self.text(name)
        if not url:
            return {
                "NAME": "taskmill",
                "USER": "postgres",
                "HOST": str(embedded.sockets),
                "PORT": "5432",
            }
        parts = urlsplit(url)
        if parts.scheme not in {"postgres", "postgresql"} or len(parts.path) <= 1:
            self.fault(
                name, "write postgresql://user:password@host:5432/database (PostgreSQL 15 or newer)"
            )
            return {}
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        return {
            "NAME": unquote(parts.path[1:]),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": query.pop("host", None) or parts.hostname or "",
            "PORT": str(parts.port or query.pop("port", "") or ""),
            "OPTIONS": query,
        }

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        """Give a URL (or a `;`-separated failover list of them) with one of the schemes."""
        value = self.text(name, default)
        for one in value.split(";"):
            if urlsplit(one.strip()).scheme not in schemes:
                self.fault(
                    name, f"starts with none of {', '.join(f'{scheme}://' for scheme in schemes)}"
                )
        return value

    def mail(self, name: str) -> Mail:
        """Give how mail leaves: `smtp://`, `smtp+tls://` (STARTTLS), `smtps://` or `console:`."""
        url = self.text(name)
        if not url:
            return Mail()
        if url.rstrip("/") == "console:":
            return Mail(backend="django.core.mail.backends.console.EmailBackend")
        try:
            parts = urlsplit(url)
            port = parts.port or _MAIL_PORTS[parts.scheme]
        except (ValueError, KeyError):
            self.fault(name, "write smtp+tls://user:password@host:587 (or smtp://, smtps://)")
            return Mail()
        return Mail(
            backend="django.core.mail.backends.smtp.EmailBackend",
            host=parts.hostname or "localhost",
            port=port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            has_starttls=parts.scheme == "smtp+tls",
            has_tls=parts.scheme == "smtps",
        )

    def secret_key(self, embedded: EmbeddedPaths) -> str:
        """Give SECRET_KEY, or the embedded installation's generated one."""
        given = self.text("SECRET_KEY")
        if given:
            return given
        if embedded.secret_key.exists():
            return embedded.secret_key.read_text(encoding="ascii").strip()
        if self.text("DATABASE_URL"):
            self.fault(
                "SECRET_KEY",
                "set it to 50 or more random characters "
                "(python -c 'import secrets; print(secrets.token_urlsafe(50))')",
            )
        return "unset: `manage.py up` writes one before anything is served"

    def misspelt(self) -> dict[str, str]:
        """Give the variables that nobody has read and that are nearly one that is read, with that.

        Others of our prefix may be meant for an app of the installation.
        """
        known = {name.removeprefix(OUR_PREFIX): name for name in self._read}
        found: dict[str, str] = {}
        for name in sorted(self._variables):
            if name.startswith(OUR_PREFIX) and name not in self._read:
                near = difflib.get_close_matches(name.removeprefix(OUR_PREFIX), known, 1, 0.8)
                found.update((name, known[one]) for one in near)
        return found

    def finish(self) -> None:
        """Raise what was found wrong.

        Raises:
            EnvironmentFault: a variable is wrong.
        """
        if self.faults:
            raise EnvironmentFault(
                "The configuration does not allow a start:\n  " + "\n  ".join(self.faults)
            )
