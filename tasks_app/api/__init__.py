"""The HTTP API: parses, authorises, calls a service or selector, renders. No decisions."""
