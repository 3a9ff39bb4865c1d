"""An index by the time of finish for each retention class, instead of one for both.

Made beside what runs: submissions and workers go on meanwhile, however large the table. A step that
was interrupted is repeated from its beginning by the next `migrate`.
"""

from django.db import migrations, models

DONE = ["cancelled", "success"]
DEAD = ["error", "failed", "timeout"]


def quoted(states):
    return ", ".join(f"'{state}'" for state in states)


def patiently(*statements):
    """These in a session that waits for others as long as it takes; none waits for it."""
    return ["SET lock_timeout = 0", *statements, "RESET lock_timeout"]


def drop(name):
    return f"DROP INDEX CONCURRENTLY IF EXISTS {name}"


def add(name, states):
    return migrations.SeparateDatabaseAndState(
        [
            migrations.RunSQL(
                patiently(
                    drop(name),
                    f"CREATE INDEX CONCURRENTLY {name} ON taskmill_task (finished_at)"
                    f" WHERE state IN ({quoted(states)})",
                ),
                patiently(drop(name)),
            )
        ],
        [
            migrations.AddIndex(
                "task",
                models.Index(
                    fields=["finished_at"], name=name, condition=models.Q(state__in=states)
                ),
            )
        ],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("tasks_app", "0017_awaited")]

    operations = [
        add("task_done_at", DONE),
        add("task_dead_at", DEAD),
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    patiently(drop("task_finished")),
                    patiently(
                        drop("task_finished"),
                        "CREATE INDEX CONCURRENTLY task_finished ON taskmill_task (finished_at)"
                        " WHERE finished_at IS NOT NULL",
                    ),
                )
            ],
            [migrations.RemoveIndex("task", "task_finished")],
        ),
    ]
