"""Sets of allowed perturbations; each owns its geometry."""

from summiteer.regions._region import Face as Face
from summiteer.regions._region import Region as Region
from summiteer.regions.box import Box as Box
from summiteer.regions.intersection import Intersection as Intersection
from summiteer.regions.intersection import intersect as intersect
from summiteer.regions.l1_ball import L1Ball as L1Ball
from summiteer.regions.l1_box import L1Intersection as L1Intersection
from summiteer.regions.l2_ball import L2Ball as L2Ball
from summiteer.regions.linf_ball import LinfBall as LinfBall
from summiteer.regions.sphere import Sphere as Sphere
