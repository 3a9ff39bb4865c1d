"""The reading side of the feed, for every transport: one hub per process, many subscriptions.

    wanted = Wanted(tenant_id=1)
    async with feed_hub().open(wanted, after=sequence, holder=key_id, most=100) as subscription:
        while True:
            batch = await subscription.next(15.0)  # of no events after 15 s of silence

The writing side is `tasks_app.relay`.
"""

from tasks_app.feed.batch import Batch
from tasks_app.feed.event import (
    FINAL_EVENTS,
    INNER_EVENTS,
    PLATFORM_EVENTS,
    PUBLIC_EVENTS,
    FeedEvent,
)
from tasks_app.feed.hub import FeedHub, feed_hub
from tasks_app.feed.reading import FeedBounds, feed_bounds, read_feed, sequence_of_last_event
from tasks_app.feed.subscription import (
    FeedClosed,
    FeedReset,
    KeyNotInForce,
    SlowSubscriber,
    Subscription,
    SubscriptionEnded,
    Wanted,
)

__all__ = [
    "FINAL_EVENTS",
    "INNER_EVENTS",
    "PLATFORM_EVENTS",
    "PUBLIC_EVENTS",
    "Batch",
    "FeedBounds",
    "FeedClosed",
    "FeedEvent",
    "FeedHub",
    "FeedReset",
    "KeyNotInForce",
    "SlowSubscriber",
    "Subscription",
    "SubscriptionEnded",
    "Wanted",
    "feed_bounds",
    "feed_hub",
    "read_feed",
    "sequence_of_last_event",
]
