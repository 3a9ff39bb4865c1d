"""Tasks: the store, the protocol, the engine and the public API of Taskmill (see ARCHITECTURE.md)."""
