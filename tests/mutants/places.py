"""A seeded mistake, the files that mistakes are put into, and the tests that notice them."""

from __future__ import annotations

from dataclasses import dataclass

WALK = (
    "tests/integration/test_protocol_machine.py"
    "::test_long_random_lives_do_what_the_reference_does_and_see_every_kind_of_fault"
)
PLATFORM = "tests/integration/test_platform_events.py"
HUB = "tests/integration/test_feed_hub.py"
AUDIENCES = "tests/unit/test_feed_audiences.py"
CROWD = (
    "tests/faults/test_live_crowd.py"
    "::test_a_crowd_on_every_transport_loses_nothing_while_its_servers_are_killed"
)
BEATS = "tests/races/test_beats.py"
PORTIONS = "tests/integration/test_schedule_portions.py"
REPORTS = "tests/integration/test_reports.py"
SCHEDULES_API = "tests/integration/test_schedules_api.py"
RACES = "tests/races/test_transition_races.py"
BULK_RACES = "tests/races/test_bulk_races.py"
BUNDLES = "tests/integration/test_bundles.py"
BUNDLE_RUNS = "tests/integration/test_bundle_runs.py"
HELD_UP = "tests/integration/test_held_up_workers.py"
POLICIES = "tests/integration/test_faulty_policies.py"
FAULTY_WAITS = "tests/integration/test_waits_under_faults.py"
STEPS = "tests/integration/test_failing_steps.py"
JOINED = "tests/integration/test_joined_messages.py"
QUEUES = "tests/integration/test_queues.py"
CANARIES = "tests/integration/test_canaries.py"
DEAD = "tests/integration/test_dead_letters.py"
ESTIMATES = "tests/integration/test_estimates.py"
EXPLAINED = "tests/integration/test_explained.py"
GATHERING = "tests/integration/test_api_gathering.py"
PAUSES = "tests/races/test_queue_pauses.py"
ADMISSION = "tests/races/test_admission_races.py"
ADMISSION_RULES = "tests/integration/test_admission.py"
ONE_TENANT = "tests/integration/test_plans_of_one_tenant.py"
QUOTAS_API = "tests/integration/test_quotas_api.py"
DEDUPLICATION = "tests/integration/test_deduplication.py"

SHARING_TESTS = "tests/integration/test_fairness.py"
FAIRNESS_ALONE = "tests/unit/test_fairness.py"
PLANS = "tests/integration/test_hot_path_plans.py"
LIMITS = "tests/integration/test_limits.py"
LIMIT_RACES = "tests/races/test_limit_races.py"
MAX_SHARE = "tests/integration/test_max_share.py"
KEPT_FREE = "tests/integration/test_slots_kept_free.py"
LIFTED = "tests/integration/test_lifted_limits.py"
WAKING_TESTS = "tests/integration/test_unblocking.py"
LIMITS_ALONE = "tests/unit/test_limits.py"
SIMULATION = (
    "test_a_simulated_dispatcher_keeps_every_limit_takes_all_or_none_and_leaves_nothing_over"
)

LIMITING = "tasks_app/transitions/limiting.py"
MAX_SHARE_MIGRATION = "tasks_app/migrations/0011_max_share.py"
BELL = "tasks_app/migrations/0015_bell_where_anything_is_parked.py"
WAKING = "tasks_app/dispatch/unblocking.py"
UNBLOCKING = "tasks_app/transitions/unblocking.py"
SHARING = "tasks_app/dispatch/sharing.py"
FAIRNESS = "tasks_app/limits/fairness.py"
ELIGIBILITY = "tasks_app/limits/eligibility.py"
DISPATCHING = "tasks_app/transitions/dispatching.py"
OPERATING = "tasks_app/transitions/operating.py"
RECOVERING = "tasks_app/transitions/recovering.py"
SUBMITTING = "tasks_app/transitions/submitting.py"
DISPLACING = "tasks_app/transitions/displacing.py"
CLAIMING = "tasks_app/transitions/claiming.py"
PACED = "tasks_app/maintenance/paced_retry.py"
FIRING = "scheduler/ticking/firing.py"
REQUEST = "tasks_app/execution/request.py"
WORKING = "tasks_app/transitions/working.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in `path`, `old` (which stands there exactly once) becomes `new`."""

    name: str
    path: str
    old: str
    new: str
    test: str = WALK
