"""A campaign that tries to catch a proof lying, with truth from elsewhere.

Run `python -m soundness --minutes 5 --seed 0` (or `make soundness`). Nothing here uses
a bound of the package: values come from numpy's 80-bit floats (`field.py`) and from
Arb (`arb.py`), maximisers from many starts and Newton's method (`climb.py`).

Adding a family of cases is one function in `families.py`, `kinked_families.py` or
`l1_families.py` (L1 balls, alone or in a box, and nets behind `sm.Standardise`); adding
a check is one function in `checks.py`, `kinked_checks.py` or `l1_checks.py`, which
compares with all vertices of the region. Networks with kinks
are truth of their own (`layers.py`, `kinked.py`): what is claimed around a point is
compared with points laid around it and with ascent, in 80-bit floats.
"""
