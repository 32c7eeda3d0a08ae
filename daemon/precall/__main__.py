"""`python -m precall` equals `precall`."""

from precall.cli import main

main()
