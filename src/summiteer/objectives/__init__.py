"""What is ascended: one value per example of the model's outputs and the targets.

Any callable `objective(outputs, targets) -> [rows]` serves. The classes here also know
what `check` and the two-layer theory need. φ is the loss as a function of one output.
"""

from summiteer.objectives.cross_entropy import CrossEntropy as CrossEntropy
from summiteer.objectives.default import default_objective as default_objective
from summiteer.objectives.labels import check_labels as check_labels
from summiteer.objectives.labels import classifies as classifies
from summiteer.objectives.labels import misclassified as misclassified
from summiteer.objectives.labels import scalar as scalar
from summiteer.objectives.logistic import Logistic as Logistic
from summiteer.objectives.margin import Margin as Margin
from summiteer.objectives.margin import margin as margin
from summiteer.objectives.objective import Objective as Objective
from summiteer.objectives.objective import ScalarLoss as ScalarLoss
from summiteer.objectives.objective import check_objective as check_objective
from summiteer.objectives.objective import taken as taken
from summiteer.objectives.objective import values_of as values_of
from summiteer.objectives.objective import with_slopes as with_slopes
from summiteer.objectives.quadratic import Quadratic as Quadratic
from summiteer.objectives.ratio import DLR as DLR
from summiteer.objectives.targeted import TargetedCrossEntropy as TargetedCrossEntropy
from summiteer.objectives.targeted import TargetedDLR as TargetedDLR
from summiteer.objectives.targeted import TargetedMargin as TargetedMargin
