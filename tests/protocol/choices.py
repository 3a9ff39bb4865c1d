"""What the protocol's state machine and its walks choose from; what stands twice is chosen twice as
often.
"""

from __future__ import annotations

QUEUES = ("a", "b")
WORKERS = ("w1", "w2", "w3")
MAINTAIN = ("promote", "sweep", "rescue", "expire", "unblock")
SECONDS = (1, 5, 11, 21, 21, 45, -1, -20)
ANSWERS = ("mark_published", "mark_published", "undispatch", "return_hints", "hand_back")
WORK = (
    "report_progress",
    "store_once",
    "succeed",
    "fail",
    "fail_and_retry",
    "fail_and_retry",
    "interrupt",
    "lose",
    "stop",
    "stop",
)
