"""`python -m tracegrade` is the console script."""

from tracegrade.cli import main

main()
