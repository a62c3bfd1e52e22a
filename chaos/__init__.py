"""Studies disturbed in every way that is known: see `python -m chaos --help`."""
