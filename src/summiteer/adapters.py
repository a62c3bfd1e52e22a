"""What attack libraries return -> the tensor that `sm.audit` takes, one line each.

    points = sm.adapters.from_foolbox(attack(fmodel, x, y, epsilons=eps))
    audit = sm.audit(model, x, y, points, region=sm.LinfBall(eps))

Each docstring says what that library returns for the examples that it *failed* on:
there lies the robust accuracy, and there libraries differ most. Read and run with the
versions named; `tests/test_audit_peers.py` holds it to them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from summiteer.errors import UserError


def from_foolbox(
    output: Any, inputs: Tensor | None = None, which: str = "clipped"
) -> Tensor:
    """`raw, clipped, success = attack(fmodel, x, y, epsilons=eps)` of foolbox 3.3.

    For failed examples: the last iterate of the last run, which need not be the best
    one. `clipped` is `raw` clipped to the radius once more; `.run(...)` returns raw.

    Args:
        output: what the attack returned, of one radius: the three, or one tensor of
            them (a PyTorch, NumPy or EagerPy one).
        inputs: the clean inputs; if given, the shapes are compared.
        which: "clipped" or "raw".

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing, or lists for several radii.
    """
    if which not in ("clipped", "raw"):
        raise UserError(f"which: expected 'clipped' or 'raw', got {which!r}.")
    if isinstance(output, tuple):
        if len(output) != 3:
            raise UserError(
                "output: foolbox returns (raw, clipped, success), got "
                f"{len(output)} values."
            )
        output = output[1 if which == "clipped" else 0]
    if isinstance(output, list):
        raise UserError(
            f"output: these are the points of {len(output)} radii; audit one of them "
            "with its own radius: from_foolbox(clipped[i])."
        )
    # EagerPy wraps a tensor of any framework.
    return _tensor("foolbox", getattr(output, "raw", output), inputs)


def from_torchattacks(output: Any, inputs: Tensor | None = None) -> Tensor:
    """`adv = attack(x, y)` of torchattacks 3.5.

    For failed examples: PGD, PGDL2, MIFGSM and the like return the last iterate; APGD
    and AutoAttack return the clean input. A file written by `attack.save(loader, path)`
    is read by `summiteer audit` as it is (with save_type="int" it is 8-bit, rounded
    towards 0).

    Args:
        output: the tensor, or the dict that `attack.save` writes.
        inputs: the clean inputs; if given, the shapes are compared.

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing.
    """
    if isinstance(output, Mapping):
        output = _entry("torchattacks", output, "adv_inputs")
    return _tensor("torchattacks", output, inputs)


def from_art(output: Any, inputs: Tensor | None = None) -> Tensor:
    """`adv = attack.generate(x=x_numpy, y=y)` of ART 1.20.

    For failed examples: ProjectedGradientDescent returns the last iterate (of the last
    restart that succeeded on the example, else of the first one); AutoProjected-
    GradientDescent returns the *random start* of its last restart.

    Args:
        output: the NumPy array.
        inputs: the clean inputs; if given, the shapes are compared.

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing.
    """
    return _tensor("ART", output, inputs)


def from_autoattack(output: Any, inputs: Tensor | None = None) -> Tensor:
    """`run_standard_evaluation(x, y)` or `APGDAttack.perturb(x, y)` of (py)AutoAttack.

    For failed examples: the clean input; `perturb(x, y, best_loss=True)` returns the
    iterate of highest loss instead, and is what to audit.

    Args:
        output: the tensor, `(adv, labels)`, or the four values of `attack_single_run`,
            of which the point of highest loss is taken.
        inputs: the clean inputs; if given, the shapes are compared.

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing, or the dict of `run_standard_evaluation_individual`.
    """
    if isinstance(output, Mapping):
        names = ", ".join(map(str, output))
        raise UserError(
            f"output: these are the points of several attacks ({names}); audit one of "
            "them: from_autoattack(output['apgd-ce'])."
        )
    if isinstance(output, tuple):
        output = output[0]
    return _tensor("AutoAttack", output, inputs)


def from_advlib(output: Any, inputs: Tensor | None = None) -> Tensor:
    """`adv = apgd(model, x, y, eps, norm)` or `pgd_linf(model, x, y, eps)` of adv-lib.

    For failed examples: the clean input; `apgd(..., best_loss=True)` returns the
    iterate of highest loss instead. `pgd_linf` returns, where it succeeded, the last
    misclassified iterate.

    Args:
        output: the tensor.
        inputs: the clean inputs; if given, the shapes are compared.

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing.
    """
    return _tensor("adv-lib", output, inputs)


def from_secmlt(
    output: Iterable[Any], inputs: Tensor | None = None, targets: Tensor | None = None
) -> Tensor:
    """`loader = attack(model, loader)` of secml-torch 1.5.

    For failed examples: the native backend returns the iterate of highest loss, the
    foolbox backend the last one, the advlib backend the clean input.

    Args:
        output: the loader of (adversarial inputs, labels) that the attack returned.
        inputs: the clean inputs; if given, the shapes are compared.
        targets: their labels; if given, they must be those of the loader: a loader that
            shuffles returns the examples in another order.

    Returns:
        `[n, *input]`.

    Raises:
        UserError: another thing, or another order.
    """
    try:
        batches = [(batch[0], batch[1]) for batch in output]
    except (TypeError, IndexError, KeyError) as error:
        raise UserError(
            "output: expected the loader of (inputs, labels) that secml-torch returns, "
            f"got {type(output).__name__}."
        ) from error
    if not batches:
        raise UserError("output: the loader is empty.")
    points, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if targets is not None and not torch.equal(labels.cpu(), targets.cpu()):
        raise UserError(
            "output: its labels are not `targets`: the loader shuffled the examples; "
            "attack with DataLoader(..., shuffle=False)."
        )
    return _tensor("secml-torch", points, inputs)


def _entry(library: str, output: Mapping[str, Any], name: str) -> Any:
    if name not in output:
        has = ", ".join(map(str, output))
        raise UserError(f"output: {library} writes {name!r}; this has {has}.")
    return output[name]


def _tensor(library: str, output: Any, inputs: Tensor | None) -> Tensor:
    """A tensor of its own, checked."""
    try:
        tensor = torch.as_tensor(output).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"output: expected the adversarial inputs of {library}, got "
            f"{type(output).__name__}."
        ) from error
    if tensor.ndim < 2 or tensor.is_complex() or tensor.dtype == torch.bool:
        raise UserError(
            f"output: expected adversarial inputs [n, *input] of {library}, got "
            f"{tensor.dtype} {list(tensor.shape)}."
        )
    if inputs is not None and tensor.shape != inputs.shape:
        raise UserError(
            f"output: expected the inputs' shape {list(inputs.shape)}, got "
            f"{list(tensor.shape)}."
        )
    return tensor
