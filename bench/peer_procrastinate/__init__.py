"""The peer: a plain Procrastinate application on PostgreSQL."""
