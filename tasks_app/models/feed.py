"""The feed: the order in which events became known, a row per batch, written by the relay alone;
and how far each sink has read it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GistIndex
from django.db import models
from django.db.models import Func, Value


class FeedBatch(models.Model):
    """Some events in feed order: `ids[i]` has the sequence `first_sequence + i`.

    Sequences are dense from 1: a batch begins right after the one before. The newest row is never
    deleted; it also says what a new leader of the relay goes on from.
    """

    first_sequence = models.BigIntegerField(primary_key=True)
    last_sequence = models.BigIntegerField()
    ids = ArrayField(models.BigIntegerField(), help_text="Of taskmill_event, ascending.")
    low_id = models.BigIntegerField()
    high_id = models.BigIntegerField()
    at = models.DateTimeField()
    seen_id = models.BigIntegerField(help_text="Every event at or below is in the feed, or open.")
    open_lows = ArrayField(models.BigIntegerField(), help_text="Ids whose events may yet appear.")
    open_highs = ArrayField(models.BigIntegerField(), help_text="The ends of these ranges.")

    class Meta:
        db_table = "taskmill_feed"
        indexes = [
            GistIndex(
                Func("low_id", "high_id", Value("[]"), function="int8range"), name="feed_ids"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_sequence}-{self.last_sequence}"


class FeedCursor(models.Model):
    """How far a sink has handed the feed to its receiver."""

    sink = models.CharField(max_length=100, primary_key=True)
    sequence = models.BigIntegerField(help_text="Of the last event that the receiver has.")
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_feed_cursor"

    def __str__(self) -> str:
        return f"{self.sink} at {self.sequence}"
