"""Disturb studies and see whether they come to the same end: `python -m chaos`."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

from chaos.faults import FAULTS
from chaos.site import BrokenPromiseError, Site


def main() -> int:
    """Run the faults and print what came of each; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, help="of each fault; 10 or 50 if absent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    broken = 0
    for name in options.fault or FAULTS:
        fault, cells, rounds = FAULTS[name]
        rounds = options.rounds or rounds
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            site = Site(Path(folder), cells * rounds)
            try:
                told = fault(site, rounds, random.Random(f"{options.seed} {name}"))
            except BrokenPromiseError as promise:
                broken += 1
                told = f"BROKEN: {promise}"
        print(f"{name:20s} {told} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
