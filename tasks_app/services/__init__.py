"""Use cases: one function, one transaction each; keyword-only. Faces call these, never SQL."""
