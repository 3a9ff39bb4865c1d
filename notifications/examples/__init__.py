"""Example pages at /examples/: a task's progress in a browser, over each transport."""
