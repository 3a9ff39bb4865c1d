"""The handler `http.request`: any URL as a task."""
