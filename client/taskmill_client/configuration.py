"""Where the server is and who asks: from the arguments of a client, else from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from taskmill_client.errors import ConfigurationError

URL_VARIABLE: Final = "TASKMILL_URL"
TOKEN_VARIABLE: Final = "TASKMILL_TOKEN"  # noqa: S105 - the name of a variable
API_PATH: Final = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What every request of a client needs.

    Attributes:
        url: the address of the site, without `/api/v1` and without a slash at the end.
        token: the API key; empty for none.
        timeout_seconds: for a connection, and for each wait for bytes of an answer.
        retries: how often a request that may be repeated is repeated.
    """

    url: str
    token: str = field(repr=False)
    timeout_seconds: float = 30.0
    retries: int = 3


def configured(
    url: str | None, token: str | None, *, timeout_seconds: float, retries: int
) -> Configuration:
    """Give the configuration; what is None comes from `TASKMILL_URL` and `TASKMILL_TOKEN`.

    Raises:
        ConfigurationError: there is no URL, or it is none; the token cannot be one.
    """
    found = url if url is not None else os.environ.get(URL_VARIABLE, "")
    secret = token if token is not None else os.environ.get(TOKEN_VARIABLE, "")
    return Configuration(
        url=_checked_url(found),
        token=_checked_token(secret.strip()),
        timeout_seconds=timeout_seconds,
        retries=retries,
    )


def _checked_url(text: str) -> str:
    url = text.strip().rstrip("/").removesuffix(API_PATH).rstrip("/")
    if not url:
        raise ConfigurationError(
            f"no server is named: give Client(url=...) or set {URL_VARIABLE},"
            f" such as {URL_VARIABLE}=http://127.0.0.1:8000"
        )
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigurationError(
            f"{text!r} is not the URL of a server; it looks like http://127.0.0.1:8000"
        )
    return url


def _checked_token(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"the token cannot be an API key: it has characters that no key has; see"
            f" {TOKEN_VARIABLE}"
        )
    return token
