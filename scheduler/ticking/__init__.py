"""What a beat does between two waits: take over changes, fire what is due, look after the rest.

Everything is decided in the database under the lock of the schedule's row, so that any number of
beats may run; none waits for another (`SKIP LOCKED`).

Order of locks: schedule, then its firings, then its periodic task, then tasks. Rows of
`taskmill_schedule_change` are only ever taken where nobody holds them.
"""
