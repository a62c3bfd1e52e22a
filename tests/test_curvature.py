"""Second order: κ, spectra and indices against plain linear algebra."""

import pytest
import torch

import summiteer as sm
from fakes import (
    classifier,
    derivatives,
    labelled_problem,
    measured,
    output_problem,
    seeded,
)
from summiteer.analytic import Form
from summiteer.optimality import derivatives as derivatives_module
from summiteer.optimality.curvature import (
    MORE_PRODUCTS,
    dense_curvature,
    lanczos_curvature,
)
from summiteer.regions import Face

SMOOTH = ["softplus", "tanh", "sigmoid", "erf", "gelu", "silu", "sin", "quadratic"]


def two_layer(activation="softplus", region=None, dtype=torch.float64, **changes):
    network = sm.TwoLayerNetwork.random(7, 24, activation, seed=4, dtype=dtype)
    inputs, targets = seeded(5, 7, dtype=dtype), 0.3 * seeded(5, seed=9, dtype=dtype)
    return sm.Problem(
        changes.get("model", network),
        inputs,
        targets,
        changes.get("objective", sm.Quadratic()),
        region or sm.L2Ball(0.6),
    )


def maxima(problem):
    """Where ascent ends, in float64."""
    # Not the default on boxes: signs settle slowly where coordinates stay inside.
    adversary, start = sm.ProjectedAscent(sm.Normalised()), sm.UniformStart(seed=3)
    return sm.ascend(problem, adversary, start, max_steps=4000).final[0]


def opaque(problem):
    """The same problem, its network hidden in a function."""
    network = problem.model
    return sm.Problem(
        lambda x: network(x),
        problem.inputs,
        problem.targets,
        problem.objective,
        problem.region,
    )


def ratio(claims):
    """κ of what was measured."""
    return claims.numbers["curvature_ratio"]


def tangent_spectrum(hessian, point):
    """Eigenvalues of the Hessian on the orthogonal complement of the point, by QR."""
    dim = len(point)
    basis = torch.linalg.qr(
        torch.cat([point[:, None], torch.eye(dim, dtype=point.dtype)], 1)
    ).Q[:, 1:dim]
    assert float((basis.T @ point).abs().max()) < 1e-15
    return torch.linalg.eigvalsh(basis.T @ hessian @ basis)


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_curvature_ratio_of_the_definition(activation):
    """κ = λ_max(tangent)/μ (mathematics.md §4) with F = s·f by autodiff."""
    problem = two_layer(activation)
    points = maxima(problem)
    certificate = sm.local_optimality(problem, points)
    checked = 0
    for i in range(5):
        p, x, y = certificate.certified_point[i], problem.inputs[i], problem.targets[i]
        if float(p.norm()) < 0.6 * (1 - 1e-9):
            continue
        checked += 1

        def f(d, x=x):
            return problem.model((x + d)[None])[0]

        sign = torch.sign(f(p).detach() - y)
        gradient, hessian = derivatives(f, p)
        multiplier = sign * gradient @ p / 0.6**2
        expected = tangent_spectrum(sign * hessian, p)[-1] / multiplier
        # Eigenvalues of matrices of norm ~ 10 relative to μ ~ 1.
        assert float(certificate.curvature_ratio[i]) == pytest.approx(
            float(expected), abs=1e-12
        )
        if certificate.maximum[i]:
            assert float(expected) < 1
    assert checked >= 3


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(
    "region", [sm.L2Ball(0.6), sm.Sphere(0.6), sm.LinfBall(0.2)], ids=lambda r: r.norm
)
def test_dense_and_lanczos_agree(activation, region):
    problem = two_layer(activation, region)
    points = maxima(problem)
    dense, lanczos = measured(problem, points), measured(opaque(problem), points)
    assert dense.verdict == lanczos.verdict
    # Seven dimensions: Lanczos ends exactly; the tangent parts of ∇²ℓ and u∇²f differ
    # by γ² ~ 1e-15 only at stationary points.
    assert torch.allclose(ratio(dense), ratio(lanczos), rtol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    "region", [sm.L2Ball(0.6), sm.Sphere(0.6), sm.LinfBall(0.2)], ids=lambda r: r.norm
)
def test_indices_are_stated_for_known_networks_on_balls(region):
    problem = two_layer(region=region)
    points = torch.zeros_like(problem.inputs)
    known = sm.local_optimality(problem, points).indices
    hidden = sm.local_optimality(opaque(problem), points).indices
    assert set(known) == set(hidden) == {"global", "unique", "a_priori"}
    for name, values in known.items():
        assert bool(values.isnan().any()) is (region.norm == "linf")
        assert bool(hidden[name].isnan().all())


def test_logistic_loss_has_the_same_ratio_as_its_argument():
    problem = two_layer(objective=sm.Logistic())
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    problem = sm.Problem(
        problem.model, problem.inputs, signs, sm.Logistic(), problem.region
    )
    points = maxima(problem)
    dense, lanczos = measured(problem, points), measured(opaque(problem), points)
    assert dense.verdict == lanczos.verdict
    assert torch.allclose(ratio(dense), ratio(lanczos), rtol=1e-9)


def free_face(rows, dim, normal=None, free=None):
    zero = torch.zeros(rows, dtype=torch.float64)
    return Face(
        free=torch.ones(rows, dim, dtype=torch.bool) if free is None else free,
        normal=torch.zeros(rows, dim).double() if normal is None else normal,
        multiplier=zero,
        pressure=zero + torch.inf,
    )


def symmetric(rows, dim, seed=0):
    matrix = seeded(rows, dim, dim, seed=seed)
    return (matrix + matrix.mT) / 2


def on_tangent_space(matrix, face, i):
    """Eigenvalues of one matrix on the face's tangent space, by an explicit basis."""
    kept = torch.eye(matrix.shape[-1], dtype=torch.float64)[:, face.free[i]]
    normal = face.normal[i][face.free[i]]
    if float(normal.norm()):
        stacked = torch.cat([normal[:, None], torch.eye(len(normal)).double()], 1)
        kept = kept @ torch.linalg.qr(stacked).Q[:, 1:]
    return torch.linalg.eigvalsh(kept.T @ matrix @ kept)


def faces(dim, rows=4):
    normal = torch.nn.functional.normalize(seeded(rows, dim, seed=5), dim=1)
    free = seeded(rows, dim, seed=6) > -0.5
    inside = torch.nn.functional.normalize(normal * free, dim=1)
    return {
        "interior": free_face(rows, dim),
        "sphere": free_face(rows, dim, normal),
        "box": free_face(rows, dim, free=free),
        "both": free_face(rows, dim, inside, free),
    }


@pytest.mark.parametrize("kind", ["interior", "sphere", "box", "both"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_spectra_on_every_kind_of_face(kind, scale):
    face, matrices = faces(9)[kind], scale * symmetric(4, 9)
    gradient = scale * seeded(4, 9, seed=2)
    dense = dense_curvature(lambda index: matrices[index], face, gradient)
    lanczos = lanczos_curvature(
        lambda v: torch.einsum("rij,rj->ri", matrices, v), face, gradient
    )
    assert lanczos.newton is None
    assert dense.newton is not None
    for i in range(4):
        truth = on_tangent_space(matrices[i], face, i)
        for found in (dense, lanczos):
            # Rounding of an eigenvalue problem of size 9, relative to its norm.
            top, bottom = float(found.top[i]), float(found.bottom[i])
            assert top == pytest.approx(float(truth[-1]), abs=1e-13 * scale * 9)
            assert bottom == pytest.approx(float(truth[0]), abs=1e-13 * scale * 9)
        # (μI - H)s = Pg on the tangent space, s in it.
        step = dense.newton[i]
        pushed = face.project(gradient)[i]
        image = face.project((matrices @ dense.newton[..., None])[..., 0])[i]
        assert torch.allclose(-image, pushed, atol=1e-11 * scale)
        assert torch.allclose(face.project(dense.newton)[i], step, atol=1e-11)


def test_a_face_without_tangent_space():
    face = free_face(2, 3, free=torch.zeros(2, 3, dtype=torch.bool))
    matrices = symmetric(2, 3)
    dense = dense_curvature(lambda i: matrices[i], face, seeded(2, 3))
    lanczos = lanczos_curvature(lambda v: v, face, seeded(2, 3))
    for found in (dense, lanczos):
        assert found.top.tolist() == [-torch.inf] * 2
        assert found.bottom.tolist() == [torch.inf] * 2
    assert face.dimension.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_the_lanczos_bound_contains_an_eigenvalue(seed):
    """In 200 dimensions 32 products do not end; the bound says how far they got."""
    dim = 200
    matrices = symmetric(3, dim, seed)
    matrices[1] = torch.diag(torch.linspace(-1, 1, dim, dtype=torch.float64) ** 3)
    matrices[2] = torch.diag((torch.arange(dim) == 7).double())
    face = free_face(3, dim)
    found = lanczos_curvature(
        lambda v: torch.einsum("rij,rj->ri", matrices, v), face, seeded(3, dim)
    )
    truth = torch.linalg.eigvalsh(matrices)
    nearest = (truth - found.top[:, None]).abs().amin(1)
    assert bool((nearest <= found.error + 1e-12).all())
    # A Ritz value never exceeds the largest eigenvalue.
    assert bool((found.top <= truth[:, -1] + 1e-12).all())
    assert float(found.error[0]) > 1e-10
    # Two distinct eigenvalues: closed after two products.
    assert float(found.error[2]) < 1e-12
    assert float(found.top[2]) == pytest.approx(1.0, abs=1e-12)


def test_what_lanczos_leaves_open_is_undecided():
    """μ between the Ritz value and its error bound above it is no maximum's."""
    dim = 400
    matrix, point = symmetric(1, dim)[0], torch.eye(dim).double()[:1]

    def problem(multiplier):
        # At e₁ the gradient is Ae₁ + b = μe₁.
        linear = multiplier * point[0] - matrix @ point[0]
        zero = torch.zeros(dim).double()
        form = Form(zero, linear, matrix, zero)
        return output_problem(form, zero[None], sm.L2Ball(1.0))

    # As many products as are spent where fewer left it open.
    found = lanczos_curvature(
        lambda v: v @ matrix, free_face(1, dim, normal=point), point, MORE_PRODUCTS
    )
    top, error = float(found.top), float(found.error)
    assert error > 1e-3 * top  # far more than the tolerance of eigenvalues
    for multiplier, name in (
        (top + 0.5 * error, "UNDECIDED"),
        # A vector was met along which the objective rises: error or not.
        (top - 0.5 * error, "SADDLE"),
        (top + 2.0 * error, "STRICT_LOCAL_MAXIMUM"),
        (top - 2.0 * error, "SADDLE"),
    ):
        certificate = sm.local_optimality(problem(multiplier), point)
        assert certificate.verdict[0].name == name, certificate.explain(0)


def test_large_networks_go_through_products(monkeypatch):
    problem = two_layer()
    points = maxima(problem)
    dense = measured(problem, points)
    monkeypatch.setattr(derivatives_module, "_DENSE_DIMENSION", 3)
    products = measured(problem, points)
    assert products.verdict == dense.verdict
    assert torch.allclose(ratio(products), ratio(dense), rtol=1e-10)


@pytest.mark.parametrize("activation", ["softplus", "tanh", "quadratic"])
def test_indices_are_the_plain_formulas(activation):
    """mathematics.md §6 with the constants of §5."""
    problem = two_layer(activation, sm.L2Ball(0.15))
    points = maxima(problem)
    certificate = sm.local_optimality(problem, points)
    known = sm.constants(problem)
    moved = problem.inputs + certificate.certified_point
    u = problem.model(moved).detach() - problem.targets
    gradient = u.sign()[:, None] * problem.model.gradient(moved).detach()
    multiplier = (gradient * certificate.certified_point).sum(1) / 0.15**2
    majorant = torch.where(u > 0, known.majorant, known.majorant_down)
    expected = {
        "global": majorant / multiplier,
        "unique": 2 * majorant / (multiplier + known.gradient_floor / 0.15),
        "a_priori": known.a_priori,
    }
    for name, values in expected.items():
        assert torch.allclose(certificate.indices[name], values, rtol=1e-10), name
    assert bool(certificate.maximum.all())


def rotation(dim):
    return torch.linalg.qr(seeded(dim, dim, seed=21)).Q


@pytest.mark.parametrize("change", ["rotation", "permutation"])
def test_verdicts_do_not_depend_on_coordinates_or_names(change):
    problem = two_layer("tanh")
    net, points = problem.model, maxima(problem)
    points = torch.cat([points, problem.feasible.project(seeded(5, 7, seed=8))])
    twice = torch.arange(5).repeat(2)
    problem = problem.take(twice)
    turn, order = torch.eye(7).double(), torch.arange(24)
    if change == "rotation":
        turn = rotation(7)
    else:
        order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    other = sm.Problem(
        sm.TwoLayerNetwork(
            net.hidden_weights[order] @ turn.T,
            net.output_weights[order],
            activation="tanh",
        ),
        problem.inputs @ turn.T,
        problem.targets,
        sm.Quadratic(),
        sm.L2Ball(0.6),
    )
    first = sm.local_optimality(problem, points)
    second = sm.local_optimality(other, points @ turn.T)
    assert first.verdict == second.verdict
    assert set(first.maximum[:5].tolist()) == {True}
    assert torch.allclose(
        first.curvature_ratio[:5], second.curvature_ratio[:5], rtol=1e-9
    )
    for name in first.indices:
        same = torch.allclose(
            first.indices[name][:5], second.indices[name][:5], rtol=1e-9
        )
        assert same, name


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_verdicts_do_not_depend_on_the_objectives_scale(scale):
    problem = two_layer("tanh")
    net, points = problem.model, maxima(problem)
    beside = problem.feasible.project(points + 0.05 * seeded(5, 7, seed=8))
    grown = sm.TwoLayerNetwork(
        net.hidden_weights, scale * net.output_weights, activation="tanh"
    )
    pairs = {
        "two-layer": sm.Problem(
            grown,
            problem.inputs,
            scale * problem.targets,
            sm.Quadratic(),
            problem.region,
        ),
        "opaque": sm.Problem(
            lambda x: net(x),
            problem.inputs,
            problem.targets,
            lambda outputs, targets: scale * (outputs - targets) ** 2,
            problem.region,
        ),
    }
    for given in (points, beside):
        first = sm.local_optimality(problem, given)
        for name, other in pairs.items():
            second = sm.local_optimality(other, given)
            expected, found = list(first.verdict), first.curvature_ratio
            if name == "opaque":  # nothing is proved of it
                claims = measured(problem, given)
                expected, found = list(claims.verdict), ratio(claims)
            assert list(second.verdict) == expected, name
            if given is points:
                ratios = found, second.curvature_ratio
                assert torch.allclose(*ratios, rtol=1e-8), name
                assert float(second.residual.max()) <= 1e-7


@pytest.mark.parametrize("kind", ["two-layer", "module"])
def test_float32_models_are_examined_in_float64(kind):
    if kind == "two-layer":
        coarse = two_layer(dtype=torch.float32)
    else:
        coarse = labelled_problem(dtype=torch.float32, region=sm.L2Ball(0.3))
    exact = coarse.in_double()
    points = maxima(exact)
    first = sm.local_optimality(coarse, points.float())
    second = sm.local_optimality(exact, points)
    assert first.verdict == second.verdict
    assert set(first.maximum.tolist()) == {True}
    known = ~first.indices["global"].isnan()
    assert set(known.tolist()) == {kind == "two-layer"}
    # float32 points: 6e-8 relative, times derivatives of order 10; the ascent from
    # them ends at the same maximum to its residual of 1e-8.
    assert torch.allclose(first.curvature_ratio, second.curvature_ratio, rtol=1e-5)
    assert first.curvature_ratio.dtype == torch.float64
    assert bool((first.residual < 1e-5).all())


def test_several_outputs_through_cross_entropy():
    """κ of a classifier's loss against dense autodiff on the tangent space."""
    problem = labelled_problem(model=classifier(), region=sm.L2Ball(0.3))
    points = maxima(problem)
    certificate = sm.local_optimality(problem, points)
    for i in range(6):
        p, x, y = certificate.certified_point[i], problem.inputs[i], problem.targets[i]

        def loss(d, x=x, y=y):
            logits = problem.model((x + d)[None])
            return torch.nn.functional.cross_entropy(logits, y[None])

        gradient, hessian = derivatives(loss, p)
        multiplier = gradient @ p / 0.3**2
        expected = float(tangent_spectrum(hessian, p)[-1] / multiplier)
        assert float(certificate.curvature_ratio[i]) == pytest.approx(
            expected, abs=1e-8
        )
        assert bool(certificate.maximum[i]) is (expected < 1)


def test_interior_maxima_have_no_ratio():
    form = Form(
        torch.zeros(3).double(),
        torch.zeros(3).double(),
        torch.diag(torch.tensor([-1.0, -2.0, -3.0])).double(),
        torch.zeros(3).double(),
    )
    problem = output_problem(form, torch.zeros(1, 3).double(), sm.L2Ball(0.5))
    certificate = sm.local_optimality(problem, torch.zeros(1, 3).double())
    assert certificate.verdict == (sm.Verdict.STRICT_LOCAL_MAXIMUM,)
    assert bool(certificate.curvature_ratio.isnan())


def test_one_output_row_is_a_scalar_network():
    problem = two_layer()
    network = problem.model
    row = sm.TwoLayerNetwork(
        network.hidden_weights,
        network.output_weights[None],
        network.hidden_bias,
        network.output_bias[None],
        activation=network.activation,
    )
    points = maxima(problem)
    column = problem.targets[:, None]
    same = sm.Problem(row, problem.inputs, column, sm.Quadratic(), problem.region)
    first, second = (sm.local_optimality(p, points) for p in (problem, same))
    assert first.verdict == second.verdict
    for name, values in first.indices.items():
        # The same formulas on a copy of the weights.
        assert torch.allclose(second.indices[name], values, rtol=1e-12)


def test_indices_are_not_stated_where_a_box_cuts_the_ball():
    problem = two_layer()
    low, high = float(problem.inputs.min()), float(problem.inputs.max())
    boxed = sm.Problem(
        problem.model,
        problem.inputs,
        problem.targets,
        problem.objective,
        problem.region,
        box=(low, high),
    )
    certificate = sm.local_optimality(boxed, torch.zeros_like(problem.inputs))
    assert bool(certificate.indices["a_priori"].isnan().all())
