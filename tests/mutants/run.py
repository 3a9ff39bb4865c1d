"""`make mutants`: put each seeded mistake into a copy of the tree and expect its test to go red.

Prints one line per mutant and ends with exit code 1 where one survives. Names given as arguments
choose some of them (`python -m tests.mutants.run "no sweep"`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.places import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "node_modules", "__pycache__", ".*_cache")
TIMEOUT_SECONDS = 600
TESTS_FAILED = 1


def apply(tree: Path, mutant: Mutant) -> str:
    """Put a mistake into a tree.

    Returns:
        The file's text before.

    Raises:
        ValueError: the text to replace does not stand there exactly once.
    """
    path = tree / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: found {text.count(mutant.old)} times in {mutant.path}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return text


def is_killed(tree: Path, test: str) -> bool:
    """Run a test in a tree; only a failed test counts, not one that cannot be collected."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", test],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode not in {0, TESTS_FAILED}:
        raise RuntimeError(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == TESTS_FAILED


def main(names: list[str]) -> int:
    """Try the mutants; give the exit code."""
    if unknown := set(names) - {one.name for one in MUTANTS}:
        print("there is no mutant called " + ", ".join(sorted(unknown)), file=sys.stderr)
        return 2
    chosen = [one for one in MUTANTS if not names or one.name in names]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="taskmill-mutants-") as place:
        tree = Path(place) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        for test in sorted({one.test for one in chosen}):
            if is_killed(tree, test):
                raise RuntimeError(f"{test} is red without a mutant")
        for mutant in chosen:
            text = apply(tree, mutant)
            killed = is_killed(tree, mutant.test)
            (tree / mutant.path).write_text(text, encoding="utf-8")
            survivors += not killed
            verdict = "killed by " + mutant.test.split("::")[-1] if killed else "SURVIVED"
            print(f"{mutant.name:<48} {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
