"""The seeded mutants still fit the source; `make mutants` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.places import Mutant
from tests.mutants.run import main

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_replaces_exactly_one_place_and_names_a_test_that_exists(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text(encoding="utf-8").count(mutant.old) == 1
    path, _, test = mutant.test.partition("::")
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_name_that_no_mutant_has_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no such mutant"]) == 2
    assert "there is no mutant called no such mutant" in capsys.readouterr().err
