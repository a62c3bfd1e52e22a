"""Is a point a maximum? Residuals, curvature, provers and certificates.

Who reads from top to bottom meets nothing that was not said before:

- what is said: verdict, claims, subject, explanation; what is asked: points, premises;
- arithmetic that carries its errors: tools, rounding, definite (λ_max of Wᵀ diag(D) W);
- F and where it is looked at: surface, stand, first_order, scalar_form (φ(max F_i));
- floats that only say where to look: curvature, critical_cone, spectrum, newton,
  face_newton, interior_point, escape;
- bounds of curvature: majorant, bounds; of F: patches, dual, ceiling, branching,
  rivals;
- propositions: maximum (3, 4, 6), no_maximum (7), rate (2);
- two layers with kinks (9): relu_form, hold (where a concave minorant is highest),
  completions (ties), chords (upper bounds);
- any depth, piecewise linear (10, 11): pieces (enclosed networks), readout (objectives
  of outputs), local_form, local_maximum, uphill; on kinks: ties, ridge, ridge_ascent
  (floats), relaxation, sharpness;
- provers, `prove(problem, points, within, budget) -> Claims`: smooth (with refutation),
  relu, piecewise, numerical (with decision); a new one is a file, and a line in
  `certificate.PROVERS`;
- what is called: certificate (with regularity), bracket, summit;
- ground truth for small networks, never a proof: mixed_integer (with big_m), which is
  not imported here: scipy.optimize takes half a second.
"""

from summiteer.optimality.bracket import Bracket as Bracket
from summiteer.optimality.bracket import upper_bound as upper_bound
from summiteer.optimality.certificate import Certificate as Certificate
from summiteer.optimality.certificate import local_optimality as local_optimality
from summiteer.optimality.certificate import shares as shares
from summiteer.optimality.summit import polish as polish
from summiteer.optimality.verdict import Evidence as Evidence
from summiteer.optimality.verdict import Verdict as Verdict
