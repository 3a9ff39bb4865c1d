"""The account that the embedded PostgreSQL runs as: PostgreSQL refuses to run as root.

Used by `servers`. An ordinary user runs it as himself. Root hands it to an account without rights.
Where that account cannot pass the directories above the checkout or `var` (a closed home, for
instance), it keeps the right to pass closed directories; nothing on disk is opened to others.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tasks_app.errors import InfrastructureError

_CAPABILITY_BITS = {"dac_read_search": 2, "dac_override": 1}


class AccountFault(InfrastructureError):
    """PostgreSQL cannot run as root, and no other account can take its place."""

    code = "embedded_account_fault"


def unprivileged_account() -> pwd.struct_passwd | None:
    """Give the account that PostgreSQL runs as when we are root, else None.

    Raises:
        AccountFault: we are root and there is neither `postgres` nor `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AccountFault(
        "PostgreSQL cannot run as root and there is no account `nobody`; "
        "create one, or run Taskmill as an ordinary user"
    )


def death_signal_prefix(signal_name: str) -> list[str]:
    """Give the command prefix after which a program gets a signal when its starter dies.

    Args:
        signal_name: such as `KILL` or `INT`.

    Returns:
        Nothing where `setpriv` (util-linux 2.33) is missing: the next start ends what was left.
    """
    return [_setpriv(), "--pdeathsig", signal_name, "--"] if _has_death_signal() else []


def account_prefix(
    account: pwd.struct_passwd | None, *, signal_name: str, must_reach: Sequence[Path]
) -> list[str]:
    """Give the command prefix that runs a program as `account`, with a death signal.

    Args:
        account: None to stay who we are.
        signal_name: as of `death_signal_prefix`.
        must_reach: files and directories that the account has to get at.

    Raises:
        AccountFault: the account cannot get at them; the message names the way out.
    """
    if account is None:
        return death_signal_prefix(signal_name)
    for extra in _ways():
        prefix = [*_become(account), *extra]
        if _reaches(prefix, must_reach):
            death = ["--pdeathsig", signal_name] if _has_death_signal() else []
            return [*prefix, *death, "--"]
    raise AccountFault(
        f"PostgreSQL has to run as {account.pw_name}, which cannot reach "
        f"{', '.join(str(path) for path in must_reach)}; move the checkout and TASKMILL_VAR "
        "below a directory that everybody may pass, or run Taskmill as an ordinary user"
    )


def _setpriv() -> str:
    found = shutil.which("setpriv")
    if found is None:
        raise AccountFault(
            "setpriv (util-linux) is missing; install it, or run Taskmill as an ordinary user"
        )
    return found


@functools.cache
def _has_death_signal() -> bool:
    program = shutil.which("setpriv")
    if program is None:
        return False
    tried = subprocess.run(
        [program, "--pdeathsig", "TERM", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


def _become(account: pwd.struct_passwd) -> list[str]:
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [_setpriv(), *ids]


def _ways() -> list[list[str]]:
    """Give the options of setpriv to try in turn: first no right at all, then one."""
    ways: list[list[str]] = [[]]
    for name, bit in _CAPABILITY_BITS.items():
        if _permitted_capabilities() >> bit & 1:
            keep = [f"--inh-caps=+{name}", f"--ambient-caps=+{name}"]
            # access(2) forgets capabilities of other users than root unless this bit is set
            ways.append([*keep, "--securebits=+no_setuid_fixup"])
    return ways


def _permitted_capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    sets = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Cap"))
    return int(sets.get("CapPrm", "0"), 16) & int(sets.get("CapBnd", "0"), 16)


def _reaches(prefix: Sequence[str], paths: Sequence[Path]) -> bool:
    tests = ["sh", "-c", 'for path; do test -x "$path" || exit 1; done', "sh", *map(str, paths)]
    tried = subprocess.run([*prefix, "--", *tests], capture_output=True, check=False, cwd="/")
    return tried.returncode == 0
