"""Tasks: store, protocol, engine and public API of Taskmill; see ARCHITECTURE.md."""
