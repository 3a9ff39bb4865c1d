"""What the tests under load read off the ledger, on ledgers written by hand."""

from __future__ import annotations

from pathlib import Path

from tests.faults.ledger import Run, beside, most_at_once, most_in_a_window, read_runs

FIRST, SECOND, ENDLESS = Run("a", 1.0, 3.0), Run("b", 3.0, 4.0), Run("c", 3.5, None)


def test_a_ledger_gives_runs_by_their_start_and_leaves_a_torn_line_out(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.write_text("start b 1 9 3.0\nstart a 1 8 1.0\nend a 1 8 3.0\nend b 1 9 4.0\nstart c 1")
    assert read_runs(ledger) == [FIRST, SECOND]
    ledger.write_text("start a 1 8 1.0\nstart a 2 8 2.0\n")
    assert read_runs(ledger) == [Run("a", 1.0, None), Run("a", 2.0, None)]


def test_an_end_at_the_instant_of_a_start_is_no_overlap_and_no_end_lasts_until_the_kill() -> None:
    assert most_at_once([FIRST, SECOND], killed_at=9.0) == 1
    assert most_at_once([FIRST, SECOND, ENDLESS], killed_at=9.0) == 2
    later = Run("d", 10.0, 11.0)
    assert most_at_once([ENDLESS, later], killed_at=9.0) == 1
    assert most_at_once([ENDLESS, later], killed_at=10.5) == 2


def test_those_that_run_when_one_starts_are_counted_with_it() -> None:
    found = [FIRST, SECOND, ENDLESS]
    assert [beside(run, found) for run in found] == [1, 1, 2]
    assert beside(Run("e", 99.0, 100.0), found) == 1, "one goes on; this is none of them"


def test_a_window_begins_anywhere_and_does_not_hold_its_end() -> None:
    times = [0.0, 0.9, 1.0, 1.1, 1.8]
    assert most_in_a_window(times, seconds=1) == 4
    assert most_in_a_window([0.0, 1.0, 2.0], seconds=1) == 1
    assert most_in_a_window([], seconds=1) == 0
