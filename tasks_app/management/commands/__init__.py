"""Management commands: up, demo, doctor, engine, credentials."""
