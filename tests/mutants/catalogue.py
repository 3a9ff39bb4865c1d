"""All seeded mistakes, each with the test that must notice it."""

from __future__ import annotations

from tests.mutants.fair import FAIR
from tests.mutants.faulty import FAULTY
from tests.mutants.flow import FLOW
from tests.mutants.heart import HEART
from tests.mutants.live import LIVE
from tests.mutants.places import Mutant
from tests.mutants.rooms import ROOMS
from tests.mutants.schedules import SCHEDULES

MUTANTS: tuple[Mutant, ...] = (*HEART, *FAULTY, *FLOW, *FAIR, *ROOMS, *LIVE, *SCHEDULES)
