"""Stub."""

import torch
from summiteer.optimality.local_maximum import Summit, certified
from summiteer.optimality.stand import stand, faces


def relaxed_summit(form, region, points, reach):
    zero = torch.zeros_like(reach)
    patch = form.around(points, reach)
    free, curved = faces(
        form.limits,
        points,
        patch.whole.gradient.middle,
        torch.zeros_like(points),
        1e-3 * reach,
    )
    st = stand(form.limits, points, free, curved)
    best = certified(form.around(st.points, reach * 1e-6 + st.slack), st)
    return st, best, patch.tied
