"""A crowd of clients on every transport, the writers of what it watches, and its judges."""
