"""A Taskmill server within the process, for the tests of applications that use the client.

    def test_an_order_is_packed():
        fake = FakeServer()
        fake.succeeds("shop.pack", {"packed": 2})
        with fake.client() as client:
            assert pack_order(client, 3) == 2
        assert fake.submitted[0]["payload"] == {"order_id": 3}

Nothing is sent and nothing runs: a task ends as told, the first time somebody looks at it after its
submission. It answers as the real server does, and passes the same tests where both can.
"""

from __future__ import annotations

from taskmill_client.testing.server import FakeServer

__all__ = ["FakeServer"]
