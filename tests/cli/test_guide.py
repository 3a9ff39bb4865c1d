"""The page on the command line, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cli.shell import Shell
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "how-to" / "use-the-command-line.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_commands_of_the_page_do_what_it_says(taskmill: Shell, block: str) -> None:
    script = f'taskmill() {{ "{sys.executable}" -m taskmill_client "$@"; }}\n{block}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=taskmill.environment(),
        cwd=taskmill.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
