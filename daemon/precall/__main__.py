"""The program. `python -m precall` equals `precall`."""

import sys


def main() -> None:
    """Run one command. See `precall.cli.main`, whose import takes most of a second: Ctrl-C ends that, too."""
    try:
        from precall import cli  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
