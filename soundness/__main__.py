"""Run the campaign: `python -m soundness --minutes 5 --seed 0`."""

import argparse
import sys
import warnings

import torch

from soundness.campaign import run


def main() -> int:
    """Run it and print the table; 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="soundness", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", help="only these families")
    parser.add_argument("--round", type=int, help="one round again, to replay a story")
    parser.add_argument("--rounds", type=int, help="stop after so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tally = run(
        60 * options.minutes,
        options.seed,
        options.family,
        options.round,
        options.rounds,
    )
    print(tally.table())
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
