"""The paper's claims, one a file and a line in `CLAIMS`: protocol, rule, verdict.

A claim names the studies that it needs and judges what they found by a rule that is
written before they run. Nothing here measures.
"""

from summiteer.studies.claims.c1 import C1
from summiteer.studies.claims.c2 import C2
from summiteer.studies.claims.c3 import C3
from summiteer.studies.claims.c4 import C4
from summiteer.studies.claims.c5 import C5
from summiteer.studies.claims.c6 import C6
from summiteer.studies.claims.c7 import C7
from summiteer.studies.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (C1, C2, C3, C4, C5, C6, C7)
