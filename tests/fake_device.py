"""A device that is not there: real numbers, behind tensors that no CPU may touch.

Its tensors say that they are elsewhere. An operation on them and on CPU tensors
together is refused as it would be on a GPU, and so is reading their memory; numbers of
no dimension and indices may come from the CPU, as on a GPU.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

#: The only device beside the CPU whose tensors autograd handles without a driver.
DEVICE = torch.device("meta")

aten = torch.ops.aten
#: What brings tensors from one device to another.
_MOVES = {aten._to_copy.default, aten.copy_.default}
#: Their indices may be on the CPU while what is indexed is not.
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
}


class Elsewhere(torch.Tensor):
    """A tensor on the device, whose numbers are in `held`."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"Elsewhere({self.held})"

    def tolist(self):
        """What a GPU allows, by copying first."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return performed(operation, arguments, options or {})


class _Factories(TorchDispatchMode):
    """Tensors that are made on the device, or brought to it from the CPU."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return performed(operation, arguments, options or {})


class _Makers(TorchFunctionMode):
    """What makes tensors of Python's or numpy's numbers, unseen by dispatch."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = dict(options or {})
        made = function in {torch.tensor, torch.as_tensor}
        if made and torch.device(options.get("device") or "cpu") == DEVICE:
            del options["device"]
            return function(*arguments, **options).to(DEVICE)
        return function(*arguments, **options)


def performed(operation, arguments, options):
    """The operation on the numbers; what comes out is where it belongs."""
    flat, _ = tree_flatten((arguments, options))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    away = [x for x in tensors if isinstance(x, Elsewhere)]
    here = [x for x in tensors if not isinstance(x, Elsewhere) and x.ndim]
    if away and here and operation not in _MOVES:
        indexed = operation in _INDEXING and isinstance(arguments[0], Elsewhere)
        if not (indexed and all(not x.is_floating_point() for x in here)):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two "
                f"devices, in {operation}."
            )
    where = options.get("device")
    target = bool(away) if where is None else torch.device(where) == DEVICE
    if operation is aten.copy_.default:
        target = isinstance(arguments[0], Elsewhere)
    plain_options = {k: v for k, v in options.items() if k != "device"}
    if where is not None:
        plain_options["device"] = torch.device("cpu")
    held = [tree_map(_held, x) for x in arguments]
    result = operation(*held, **tree_map(_held, plain_options))
    if target:
        # What an operation in place returns is the tensor that it was given.
        known = {id(x.held): x for x in away}
        return tree_map(lambda x: known[id(x)] if id(x) in known else _away(x), result)
    return result


def _held(value):
    return value.held if isinstance(value, Elsewhere) else value


def _away(value):
    return Elsewhere(value) if type(value) is torch.Tensor else value


@contextmanager
def somewhere_else():
    """Let tensors be made on, and moved to, `DEVICE`."""
    with _Factories(), _Makers():
        yield DEVICE
