"""Webhooks: events as signed HTTP requests, each to its receivers, until it is answered."""
