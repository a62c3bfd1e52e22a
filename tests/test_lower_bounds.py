"""What was not reached is a lower bound, and no verdict rests on where it lies."""

import numpy as np
import pytest

from summiteer.studies.claims import c5_rule
from summiteer.studies.claims.c5_rule import Runs
from summiteer.studies.claims.claim import Standing


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ((58, 58, 58), Standing.NO_EFFECT),
        ((58, 58, 61), Standing.INCONCLUSIVE),
        ((61, 58, 58), Standing.INCONCLUSIVE),
        ((58, 61, 58), Standing.INCONCLUSIVE),
        ((3, 10, 61), Standing.SUPPORTED),
        ((61, 10, 3), Standing.REVERSED),
        ((3, 61, 61), Standing.SUPPORTED),
    ],
)
def test_c5_gives_no_verdict_that_longer_training_could_overturn(steps, verdict):
    rise = np.tile([0.1, 0.2, 0.3], (10, 1))
    table = np.tile(np.array(steps, float), (3, 10, 1))
    scales = np.array([0.1, 1.0, 10.0])
    runs = Runs(scales, table, 61.0, rise, np.ones((10, 3)), [False] * 3)
    assert c5_rule.standing(runs) is verdict
