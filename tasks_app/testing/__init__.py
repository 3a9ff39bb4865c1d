"""The test kit of handler authors: one attempt of a handler, run in the test's process.

No database, no broker, no settings beyond Django's: `f.test_run(payload)` checks the payload as a
submission does, hands the handler the context that workers hand it, and tells what a worker would
have made of the outcome. Fixtures for pytest are in `tasks_app.testing.pytest`; how to use both is
docs/how-to/test-a-handler.md. Product code never imports this package.
"""

from tasks_app.testing.run import Run, run_handler
from tasks_app.testing.sink import Logs, RecordingSink

__all__ = ["Logs", "RecordingSink", "Run", "run_handler"]
