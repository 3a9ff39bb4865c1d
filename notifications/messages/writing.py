"""What a message says: the texts that its task brings, or a template of the operator's.

Only templates of the operator's directory are rendered; what tasks bring is taken as it stands, and
variables are JSON, so a template can reach nothing of the platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.template import Context, Engine, TemplateDoesNotExist, TemplateSyntaxError

from notifications.messages.conf import messages_conf
from tasks_app.public import Permanent

_MISSING: Final = "\x00%s\x00"
MOST_SUBJECT_CHARACTERS: Final = 250


@dataclass(frozen=True, slots=True)
class Written:
    """The texts of a message; empty where there is none."""

    subject: str
    text: str
    html: str = ""


def is_template(name: str) -> bool:
    """Say whether the operator has a template of this name."""
    directory = messages_conf().templates
    if not directory:
        return False
    try:
        _engine(directory).get_template(f"{name}/text.txt")
    except TemplateDoesNotExist:
        return False
    except TemplateSyntaxError:
        pass
    return True


def write(name: str, variables: Mapping[str, Any]) -> Written:
    """Render a template.

    Raises:
        Permanent: `INVALID_DATA`, it is not there, is broken, or needs a variable that is not
            given.
    """
    directory = messages_conf().templates
    if not is_template(name):
        raise Permanent("INVALID_DATA", f"the worker has no template {name!r}")
    subject = " ".join(_rendered(directory, f"{name}/subject.txt", variables).split())
    return Written(
        subject=subject[:MOST_SUBJECT_CHARACTERS],
        text=_rendered(directory, f"{name}/text.txt", variables),
        html=_rendered(directory, f"{name}/html.html", variables),
    )


def _rendered(directory: str, path: str, variables: Mapping[str, Any]) -> str:
    try:
        template = _engine(directory).get_template(path)
        text = template.render(Context(dict(variables), autoescape=path.endswith(".html")))
    except TemplateDoesNotExist as error:
        if error.args == (path,):
            return ""
        raise Permanent("INVALID_DATA", f"{path} includes {error}, which is not there") from error
    except Exception as error:
        raise Permanent("INVALID_DATA", f"the template {path} fails: {error}") from error
    before, _, rest = text.partition("\x00")
    if rest:
        name = rest.partition("\x00")[0]
        raise Permanent("INVALID_DATA", f"the template {path} needs the variable {name!r}")
    return before


@cache
def _engine(directory: str) -> Engine:
    """Give an engine that knows this directory alone; a variable without a value leaves a mark."""
    return Engine(dirs=[directory], string_if_invalid=_MISSING)
