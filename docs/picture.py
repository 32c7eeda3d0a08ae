"""Draw docs/assets/demo.svg: the real demo in a real terminal, as it looks after some seconds. `make picture`.

tmux is the terminal (apt-get install tmux); Rich draws what tmux shows.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parent / "assets" / "demo.svg"
WIDTH, HEIGHT = 100, 34
MOMENT = re.compile(r"^precall demo  t\+2[4-9] s", re.MULTILINE)
"""What the screen shows when the picture is taken: the demo has told the first part of its story."""

PATIENCE = 120.0


def tmux(*words: str) -> str:
    """What tmux prints."""
    return subprocess.run(["tmux", *words], check=True, capture_output=True, text=True).stdout


def screen() -> str:
    """The demo's screen at the moment, with its colours. Raises TimeoutError."""
    session = f"precall-{os.getpid()}"
    command = f"{Path(sys.executable).parent / 'precall'} demo --for 60s"
    tmux("new-session", "-d", "-s", session, "-x", str(WIDTH), "-y", str(HEIGHT), command)
    try:
        until = time.monotonic() + PATIENCE
        while not MOMENT.search(tmux("capture-pane", "-p", "-t", session)):
            if time.monotonic() > until:
                raise TimeoutError("the demo did not reach its picture")
            time.sleep(0.2)
        return tmux("capture-pane", "-e", "-p", "-t", session)
    finally:
        subprocess.run(["tmux", "kill-session", "-t", session], check=False, capture_output=True)


def drawn(shown: str) -> str:
    """A terminal's output as SVG."""
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(
            file=nowhere, width=WIDTH, record=True, force_terminal=True, color_system="truecolor"
        )
        console.print(
            Text.from_ansi(shown.rstrip()), Text(), sep="\n"
        )  # without the last line, underscores are cut
        picture = console.export_svg(title="precall demo", theme=MONOKAI, unique_id="demo")
    # Rich has the font loaded from another host. Without that rule, the reader's monospaced font is used.
    return re.sub(r" *@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(drawn(screen()), encoding="utf-8")
