"""What long processes tell the garbage collector."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

_SCRIPT: Final = """
import gc, weakref
from tasks_app.garbage import spare_what_stays
spare_what_stays()
class Ring:
    pass
ring = Ring()
ring.me = ring
gone = weakref.ref(ring)
del ring
spared = gc.get_freeze_count()
kept = [[] for _ in range(50_000)]
print(spared > 1_000, gone() is None)
"""


def test_what_stays_is_spared_and_new_garbage_is_still_collected() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["True", "True"]


_CONNECTIONS: Final = """
from tasks_app.garbage import spare_what_stays
spare_what_stays()
class Connection:
    alive = 0
    def __init__(self):
        Connection.alive += 1
        self.parts = [[self] for _ in range(100)]
    def __del__(self):
        Connection.alive -= 1
most, open_ones = 0, []
for number in range(20_000):
    open_ones.append(Connection())
    if len(open_ones) == 500:
        open_ones.clear()
    most = max(most, Connection.alive)
print(most < 4_000)
"""


def test_rings_that_have_lived_a_while_do_not_pile_up() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _CONNECTIONS], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "True"
