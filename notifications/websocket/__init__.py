"""The WebSocket transport: many subscriptions of the feed on one socket.

`routing.websocket_application` is the way in. Each web process tails the feed itself
(`tasks_app.platform.feed_hub`); the channel layer carries only what must cross processes at once.
Source: docs/adr/0007-websocket.md.
"""
