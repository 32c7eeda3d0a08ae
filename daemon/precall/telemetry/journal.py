"""The journal of systemd, where standard error leads there: each line begins with its priority, as `<3>`.

journald takes the prefix off before it stores a line, so what it shows is the line alone, in JSON too (sd-daemon(3)).
"""

import logging
import os
from collections.abc import Mapping
from typing import TextIO

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether this stream leads to the journal. `JOURNAL_STREAM` is inherited by processes whose streams do not."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, or closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def prefixed(text: str, level: int) -> str:
    """Return the text with the priority of this level before each of its lines: journald stores each by itself."""
    priority = next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
