"""Norms of affine operations, against dense matrices and adjoint products."""

import numpy as np
import pytest
import torch

from rational import F64, Program, mapped, rational
from summiteer.networks.affine import (
    AveragePool,
    Convolution,
    Dense,
    Elementwise,
    Gather,
    Normalisation,
    Reshape,
)
from summiteer.optimality.norms import operator_norm, row_lengths, spectral


def operations(scale=1.0):
    made = Program((2, 5, 5), 3)
    return {
        "dense": (Dense(scale * made.random(4, 7), made.random(4)), (7,)),
        "wide": (Dense(scale * made.random(7, 4), made.random(7)), (4,)),
        "plain": (
            Convolution(scale * made.random(3, 2, 3, 3), made.random(3), (2, 5, 5)),
            (2, 5, 5),
        ),
        "strided": (
            Convolution(
                scale * made.random(4, 1, 3, 2),
                made.random(4),
                (2, 5, 5),
                stride=(2, 1),
                padding=(1, 1),
                groups=2,
            ),
            (2, 5, 5),
        ),
        "dilated": (
            Convolution(
                scale * made.random(2, 2, 2, 2),
                made.random(2),
                (2, 5, 5),
                stride=(1, 2),
                padding=(2, 0),
                dilation=(2, 3),
            ),
            (2, 5, 5),
        ),
        "elementwise": (
            Elementwise(
                scale * made.random(4), 1 + made.random(4).abs(), made.random(4)
            ),
            (4,),
        ),
        "normalisation": (
            Normalisation(
                made.random(2),
                made.random(2).square(),
                scale * made.random(2),
                made.random(2),
                1e-5,
                2,
            ),
            (2, 5, 5),
        ),
        "gather": (Gather(torch.tensor([0, 3, 3, 1, 3]), (2, 2)), (2, 2)),
        "reshape": (Reshape((2, 2), (4,)), (2, 2)),
        "average": (
            AveragePool((2, 5, 5), (3, 2), (1, 1), (1, 1)),
            (2, 5, 5),
        ),
    }


def matrix_of(operation, shape):
    """A, column by column."""
    count = int(np.prod(shape))
    unit = torch.eye(count, dtype=F64).reshape(count, *shape)
    zero = torch.zeros(1, *shape, dtype=F64)
    return (operation.apply(unit) - operation.apply(zero)).flatten(1).T


@pytest.mark.parametrize("name", operations())
def test_norms_are_upper_bounds_and_near(name):
    operation, shape = operations()[name]
    # Cancellation of the bias moves A by far less than the bounds' own room (1e-9).
    matrix = matrix_of(operation, shape)
    true = float(torch.linalg.matrix_norm(matrix, 2))
    bound = operator_norm(operation)
    assert bound >= true * (1 - 1e-12)
    # Windows overlap: ‖unfold‖ is no better than √(windows of an entry).
    assert bound <= true * (2.5 if "Convolution" in repr(operation) else 1.5) + 1e-12
    rows = row_lengths(operation)
    if rows is not None:
        full = matrix.norm(dim=1).reshape(
            operation.apply(torch.zeros(1, *shape, dtype=F64)).shape[1:]
        )
        assert bool((rows.expand(full.shape) >= full * (1 - 1e-12)).all())


@pytest.mark.parametrize("scale", [1e-160, 1e-120, 1e-100, 1e100, 1e150, 1e200])
def test_norms_hold_at_every_scale(scale):
    for name, (operation, _) in operations(scale).items():
        plain = operator_norm(operations()[name][0])
        assert operator_norm(operation) >= plain * min(scale, 1.0) / 1.5
        if name in ("dense", "wide", "plain", "strided", "dilated"):
            assert operator_norm(operation) >= plain * scale / 1.5


@pytest.mark.parametrize("name", operations())
def test_the_transpose_is_the_adjoint_and_spreads_are_of_magnitudes(name):
    operation, shape = operations()[name]
    value = torch.randn(2, *shape, dtype=F64, generator=torch.manual_seed(1))
    zero = torch.zeros(1, *shape, dtype=F64)
    out = operation.apply(value)
    form = torch.randn(out.shape, dtype=F64, generator=torch.manual_seed(2))
    left = ((out - operation.apply(zero)) * form).flatten(1).sum(1)
    right = (operation.transpose(form) * value).flatten(1).sum(1)
    assert torch.allclose(left, right, rtol=1e-12, atol=1e-12)
    size = matrix_of(operation, shape).abs()
    spread = operation.spread(value.abs()).flatten(1)
    assert torch.allclose(spread, value.abs().flatten(1) @ size.T, atol=1e-12)
    back = operation.spread_back(form.abs()).flatten(1)
    assert torch.allclose(back, form.abs().flatten(1) @ size, atol=1e-12)
    exact = mapped(operation, rational(value[0]), tuple(out.shape[1:]))
    assert np.allclose(exact.astype(float), out[0].numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (8, 8), (40, 2)])
def test_the_spectral_bound_is_above_the_norm_and_near(shape):
    generator = torch.Generator().manual_seed(5)
    random = torch.randn(6, *shape, generator=generator, dtype=F64)
    for scale in (1.0, 1e-60, 1e60):
        bound = spectral(scale * random)
        true = scale * torch.linalg.matrix_norm(random, 2)
        assert bool((bound >= true).all())
        assert bool((bound <= true * min(shape) ** (2.0**-6) * (1 + 1e-4)).all())
    assert float(spectral(torch.zeros(*shape, dtype=F64))) >= 0
    one = torch.zeros(*shape, dtype=F64)
    one[0, 0] = 3.0
    assert 3.0 <= float(spectral(one)) <= 3.001


def test_a_bound_of_equal_singular_values_is_the_worst_case():
    """All n equal: the Frobenius norm of G^16 is n^½, its 32nd root is 1.1."""
    identity = torch.eye(64, dtype=F64)
    bound = float(spectral(identity))
    assert 1.0 <= bound <= 64 ** (1 / 64) * 1.0001
