"""`python -m taskmill_client`: the command `taskmill`."""

from __future__ import annotations

import sys

NEEDED = "the command needs more than the library: pip install 'taskmill-client[cli]'"

if __name__ == "__main__":
    try:
        import rich  # noqa: F401 - whether it is there
        import typer  # noqa: F401 - as above
    except ImportError as error:
        sys.exit(f"error: {error}\nhint: {NEEDED}")
    from taskmill_client.cli.main import main

    main()
