"""The servers that all other tests stand on."""

import pytest
from django.db import connection


@pytest.mark.django_db
def test_the_test_database_is_migrated_and_has_the_clock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET taskmill.clock_offset = '1 hour'")
        cursor.execute("SELECT taskmill_now() - now()")
        assert cursor.fetchone()[0].total_seconds() == 3600
        cursor.execute("RESET taskmill.clock_offset")
