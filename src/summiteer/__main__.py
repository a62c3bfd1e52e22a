"""`python -m summiteer`."""

from summiteer.cli import main

main()
