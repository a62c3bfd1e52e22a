"""First-order adversaries: frozen methods with pure steps."""

from summiteer.adversaries._adversary import Adversary as Adversary
from summiteer.adversaries._adversary import Step as Step
from summiteer.adversaries.auto_pgd import AutoPGD as AutoPGD
from summiteer.adversaries.dc_ascent import DCAscent as DCAscent
from summiteer.adversaries.direction import Direction as Direction
from summiteer.adversaries.direction import Normalised as Normalised
from summiteer.adversaries.direction import RawGradient as RawGradient
from summiteer.adversaries.direction import Sign as Sign
from summiteer.adversaries.frank_wolfe import FrankWolfe as FrankWolfe
from summiteer.adversaries.frank_wolfe import FullStep as FullStep
from summiteer.adversaries.frank_wolfe import OpenLoopStep as OpenLoopStep
from summiteer.adversaries.frank_wolfe import ShortStep as ShortStep
from summiteer.adversaries.frank_wolfe import frank_wolfe_gap as frank_wolfe_gap
from summiteer.adversaries.momentum_ascent import MomentumAscent as MomentumAscent
from summiteer.adversaries.named import NAMED as NAMED
from summiteer.adversaries.named import SIZED as SIZED
from summiteer.adversaries.named import named_adversary as named_adversary
from summiteer.adversaries.projected_ascent import ProjectedAscent as ProjectedAscent
from summiteer.adversaries.projected_ascent import (
    default_adversary as default_adversary,
)
from summiteer.adversaries.projected_ascent import default_attack as default_attack
from summiteer.adversaries.step_rule import BacktrackingStep as BacktrackingStep
from summiteer.adversaries.step_rule import ConstantStep as ConstantStep
from summiteer.adversaries.step_rule import DecayingStep as DecayingStep
from summiteer.adversaries.step_rule import LipschitzStep as LipschitzStep
from summiteer.adversaries.step_rule import StepRule as StepRule
