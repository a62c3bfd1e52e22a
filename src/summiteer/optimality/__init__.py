"""Is a point a maximum? Residuals, curvature, provers and certificates."""

from summiteer.optimality.bracket import Bracket as Bracket
from summiteer.optimality.bracket import upper_bound as upper_bound
from summiteer.optimality.certificate import Certificate as Certificate
from summiteer.optimality.certificate import local_optimality as local_optimality
from summiteer.optimality.certificate import shares as shares
from summiteer.optimality.summit import polish as polish
from summiteer.optimality.verdict import Evidence as Evidence
from summiteer.optimality.verdict import Verdict as Verdict
