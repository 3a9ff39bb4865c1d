"""The settings of the handler `http.request`: variables `TASKMILL_HTTP_REQUEST_<NAME>`."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequestConf:
    """Tasks that call a URL; variables `TASKMILL_HTTP_REQUEST_<NAME>`."""

    enabled: bool = setting(
        False,
        "Whether there is the task type `http.request`. Off by default: whoever may submit tasks "
        "sends requests from the addresses of your workers, and reads the answers. Set it alike "
        "for web servers and workers.",
    )
    allow: tuple[str, ...] = setting(
        (),
        "Services that may be called though they are not public, comma separated: networks such "
        "as `10.1.0.0/16` and exact host names. Those named as host, and addresses in these "
        "networks written as such, may also use http and any port. Every tenant may call them.",
    )
    schemes: tuple[str, ...] = setting(
        ("https",), "Schemes that public services may use: `https`, `http`."
    )
    ports: tuple[str, ...] = setting(
        ("443", "8443"), "Ports of public services beside 80 where http is allowed."
    )
    max_answer_bytes: int = setting(
        131_072,
        "Bytes of an answer that are kept; what follows is not read. A result has room for 1 MiB "
        "as it is printed.",
        least=0,
        most=786_432,
    )


def http_request_conf() -> HttpRequestConf:
    """Give the settings in force."""
    found: HttpRequestConf = settings.TASKMILL_HTTP_REQUEST
    return found
