"""Known vulnerabilities of the locked dependencies: `python -m tests.audit`, or `make audit`.

pip-audit by itself passes when the advisory service is out of reach, or fails with a traceback. Here that is a result
of its own: exit 0, nothing is known against any of them; 1, something is; 3, nobody could be asked.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = ["pip_audit", "--requirement", "requirements.lock", "--require-hashes", "--disable-pip"]
OPTIONS = ["--progress-spinner", "off", "--format", "json", "--aliases", "on", "--desc", "off"]

CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3


def verdict(report: str) -> tuple[int, list[str]]:
    """(exit code, lines to print) of what pip-audit wrote; "" when it wrote nothing."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN, ["the advisory service is out of reach: nothing was audited"]
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    found = [
        f"{one['name']} {one['version']}: {', '.join([flaw['id'], *flaw['aliases']])}"
        f"; fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for flaw in one.get("vulns", ())
    ]
    audited = len(dependencies) - len(skipped)
    if found:
        return VULNERABLE, [*found, f"{len(found)} known vulnerabilities in {audited} packages"]
    if not audited:
        return UNKNOWN, ["the advisory service is out of reach: nothing was audited"]
    if skipped:
        return UNKNOWN, [
            f"not known to the advisory service: {', '.join(skipped)}",
            f"{audited} others are clean",
        ]
    return CLEAN, [f"nothing is known against any of {audited} packages"]


def main() -> int:
    """Ask, print, and return the exit code."""
    asked = subprocess.run(
        [sys.executable, "-m", *COMMAND, *OPTIONS],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    code, lines = verdict(asked.stdout.decode())
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
