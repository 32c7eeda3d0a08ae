"""Check the locked dependencies for known vulnerabilities: `python -m tests.audit`, or `make audit`.

If the advisory service is unreachable, pip-audit passes or fails with a traceback. Here that has an exit code of its
own: 0 means no known vulnerability, 1 means at least one, and 3 means that the service could not be reached.
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
    """Return (exit code, lines to print) for the output of pip-audit, which may be ""."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN, ["the advisory service is out of reach: nothing was audited"]
    skipped = [package["name"] for package in dependencies if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {', '.join([flaw['id'], *flaw['aliases']])}"
        f"; fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in dependencies
        for flaw in package.get("vulns", ())
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
    """Run pip-audit, print the verdict, and return the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", *COMMAND, *OPTIONS],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    code, lines = verdict(done.stdout.decode())
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
