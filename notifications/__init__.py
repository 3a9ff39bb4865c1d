"""Notifications: how events leave the platform."""
