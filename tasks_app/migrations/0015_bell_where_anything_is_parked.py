from django.db import migrations

# As in 0011, and first asks whether anything is parked at all: one probe where nothing is, whatever
# the number of rules. For the settings see there; an EXISTS would lose its order.
RING_FOR = """
CREATE OR REPLACE FUNCTION taskmill_ring_for(rules text[]) RETURNS void LANGUAGE plpgsql STRICT
SET enable_sort = off SET enable_incremental_sort = off SET enable_seqscan = off AS $$
BEGIN
    IF (SELECT t.id FROM taskmill_task t WHERE t.state = 'blocked'
        ORDER BY t.blocked_by, t.queue, t.priority DESC, t.run_at, t.id LIMIT 1) IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM taskmill_parked_by(rules))
        AND pg_try_advisory_xact_lock(7263840156) THEN
        PERFORM pg_notify('taskmill_dispatch', '');
    END IF;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0014_lists_at_rest")]

    operations = [migrations.RunSQL(RING_FOR, migrations.RunSQL.noop)]
