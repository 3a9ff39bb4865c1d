"""Mistakes in what keeps a fault to those it concerns: held up workers, policies, steps, waits."""

from __future__ import annotations

from tests.mutants.places import FAULTY_WAITS, HELD_UP, POLICIES, STEPS, Mutant

HELD_UP_WORKERS = "tasks_app/execution/held_up.py"
DECIDING = "tasks_app/execution/deciding.py"

FAULTY = (
    Mutant(
        "a held up worker keeps what waits in it",
        HELD_UP_WORKERS,
        "return any(self._waiting.values()) and self._seconds_left() <= 0",
        "return False",
        f"{HELD_UP}::test_an_idle_worker_gets_what_a_held_up_one_took",
    ),
    Mutant(
        "a held up worker acknowledges what comes",
        "tasks_app/execution/request.py",
        "        elif self._may_grow:\n            self.acknowledge()",
        "        self.acknowledge()",
        f"{HELD_UP}::test_a_held_up_worker_takes_no_more_than_its_prefetch_count",
    ),
    Mutant(
        "what was handed back is dropped without end",
        HELD_UP_WORKERS,
        "return self._dropped > 0",
        "return True",
        f"{HELD_UP}::test_it_runs_on_once_a_slot_is_free",
    ),
    Mutant(
        "a policy that raises loses the attempt's own error",
        DECIDING,
        "    except Exception:\n        log.exception(",
        "    except KeyError:\n        log.exception(",
        f"{POLICIES}::test_the_default_decides_and_the_handlers_error_is_kept",
    ),
    Mutant(
        "the keeper of leases waits for a policy",
        DECIDING,
        "if is_hurried else ask(policy)",
        "if False else ask(policy)",
        f"{POLICIES}::test_one_that_fails_after_a_kill_costs_no_neighbour_its_lease",
    ),
    Mutant(
        "a submission whose end cannot be read was not accepted",
        "tasks_app/api/waiting_views.py",
        'if request.method == "GET" else response',
        "if request else response",
        f"{FAULTY_WAITS}::test_a_submission_whose_end_cannot_be_read_is_still_accepted",
    ),
    Mutant(
        "a hub that failed leaves who waits alone",
        "tasks_app/api/waiting.py",
        "        except Exception:  # noqa: BLE001 - whatever it is, who waits is not left alone",
        "        except KeyError:",
        f"{FAULTY_WAITS}::test_a_waiting_hub_that_failed_looks_again",
    ),
    Mutant(
        "a step that fails starves those behind it",
        "tasks_app/maintenance/loop.py",
        "            if turn.connection.closed:\n                raise\n            wait =",
        "            if fault:\n                raise\n            wait =",
        f"{STEPS}::test_whatever_breaks_a_step_the_next_runs",
    ),
)
