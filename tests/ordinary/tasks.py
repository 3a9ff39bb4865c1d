"""Ordinary Celery tasks."""

from __future__ import annotations

from celery import shared_task


@shared_task
def add(left: int, right: int) -> int:
    return left + right


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)
