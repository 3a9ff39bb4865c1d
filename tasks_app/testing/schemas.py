"""Whether a payload schema still takes the payloads that an older one took.

Tasks wait in the database across releases, and clients upgrade late: a payload that was valid must
stay valid. Compared are JSON Schemas as pydantic writes them; what is not looked at here (bounds,
patterns) is not claimed to be compatible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


def find_breaks(old: Schema, new: Schema) -> list[str]:
    """Name what stops payloads of `old` from fitting `new`.

    Looked for, in nested models and lists too: a field that is gone, a field newly required, a type
    or an allowed value that is no longer taken.

    Args:
        old: JSON Schema of the payload as it was.
        new: JSON Schema of the payload as it is.

    Returns:
        One sentence per break, empty where there is none.
    """
    return list(_Comparison(old, new).breaks(old, new, "payload", ()))


@dataclass(frozen=True, slots=True)
class _Comparison:
    old_root: Schema
    new_root: Schema

    def breaks(self, old: Schema, new: Schema, where: str, seen: tuple[str, ...]) -> Iterator[str]:
        befores = _options(old, self.old_root)
        afters = _options(new, self.new_root)
        yield from _lost_values(befores, afters, where)
        before, after = _of_type(befores, "object"), _of_type(afters, "object")
        name = str(before.get("title", ""))
        if name not in seen:
            yield from self._lost_fields(before, after, where, (*seen, name))
        before, after = _of_type(befores, "array"), _of_type(afters, "array")
        if "items" in before and "items" in after:
            yield from self.breaks(before["items"], after["items"], f"{where}[]", seen)

    def _lost_fields(
        self, old: Schema, new: Schema, where: str, seen: tuple[str, ...]
    ) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self.breaks(before[name], after[name], f"{where}.{name}", seen)
            elif "properties" in new:
                yield f"{where}.{name} is gone"
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            yield f"{where}.{name} is newly required"


def _options(schema: Schema, root: Schema) -> list[Schema]:
    """Give what a schema is one of, references followed."""
    found: list[Schema] = []
    for option in schema.get("anyOf", [schema]):
        reference = str(option.get("$ref", ""))
        name = reference.removeprefix("#/$defs/")
        found.append(root["$defs"][name] if reference.startswith("#/$defs/") else option)
    return found


def _of_type(options: list[Schema], kind: str) -> Schema:
    return next((option for option in options if option.get("type") == kind), {})


def _lost_values(old: list[Schema], new: list[Schema], where: str) -> Iterator[str]:
    lost_types = _types(old) - _types(new)
    if _types(new) and lost_types:
        yield f"{where} no longer takes {', '.join(sorted(lost_types))}"
    allowed = _allowed(new)
    for value in _allowed(old) or ():
        if allowed is not None and value not in allowed:
            yield f"{where} no longer takes {value!r}"


def _types(options: list[Schema]) -> set[str]:
    found = {str(option["type"]) for option in options if "type" in option}
    return found | ({"integer"} if "number" in found else set())


def _allowed(options: list[Schema]) -> list[Any] | None:
    """Give the values of enums and constants, None where any value of the type will do."""
    found: list[Any] = []
    for option in options:
        if "const" in option:
            found.append(option["const"])
        elif "enum" in option:
            found.extend(option["enum"])
        elif option.get("type") != "null":
            return None
    return found
