"""The parts that apps add to the report of health: each under a name of its own."""

from __future__ import annotations

import dataclasses

import pytest

from tasks_app.errors import ConfigurationError
from tasks_app.services.health import _CHECKS
from tasks_app.services.health_parts import (
    OWN_PARTS,
    HealthPart,
    Part,
    declare_health_part,
    declared_health_parts,
)


def check_nothing() -> Part:
    return Part(is_ok=True)


@pytest.mark.parametrize("name", ["database", "broker", "beat"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    before = declared_health_parts()
    with pytest.raises(ConfigurationError, match=f"two parts named {name}; rename one"):
        declare_health_part(HealthPart(name=name, check=check_nothing, fix="nothing"))
    assert declared_health_parts() == before


def test_the_same_part_may_be_declared_again() -> None:
    before = declared_health_parts()
    for part in before:
        declare_health_part(dataclasses.replace(part))
    assert declared_health_parts() == before


def test_every_own_part_is_looked_at_by_the_report() -> None:
    assert {"database", *_CHECKS} == OWN_PARTS
