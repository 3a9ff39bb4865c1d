"""`python -m taskmill_client`: the command `taskmill`."""

from __future__ import annotations

from taskmill_client.cli.main import main

if __name__ == "__main__":
    main()
