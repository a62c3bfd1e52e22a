"""How much memory one example costs, and how much there is.

What an example costs is measured: autograd tells what it keeps of a forward pass. What
there is fluctuates, so that a run writes down the block size that came of it and keeps
to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.problem import Problem

#: Share of the free memory that a block may take. The rest is for what is not counted:
#: certificates' linear programs, other programs that grow.
SHARE = 0.25
#: Copies of a point that the loop, the method's state and the search hold per run.
COPIES = 32
#: Rows on which the forward pass is measured; not one, which some models squeeze.
_FEW, _MORE = 2, 4
#: Taken for the memory of machines that do not say.
_UNKNOWN = 4 << 30
#: (limit, usage, what of it can be given back at once) of control groups, both kinds.
_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
#: What torch says where memory has run out on the CPU.
_REFUSED = ("can't allocate memory", "not enough memory")


def row_bytes(problem: Problem) -> int:
    """Bytes that one run of one example holds at once, measured by a forward pass.

    What autograd keeps of the forward pass, counted storage by storage; as much as the
    largest of these twice more, for results that are not kept and for the gradient on
    its way back; and `COPIES` of the point.

    Args:
        problem: whose model is measured, on its first example.
    """
    single = problem.inputs[:1]
    with undisturbed(problem.model):
        few, more = (_kept(problem, rows) for rows in (_FEW, _MORE))
    # What does not grow with the rows are weights.
    grown = [b - a for a, b in zip(few, more, strict=False)]
    growth = max(sum(more) - sum(few), 0) + 2 * max(grown, default=0)
    return growth // (_MORE - _FEW) + COPIES * single.numel() * single.element_size()


def _kept(problem: Problem, rows: int) -> list[int]:
    """The bytes of each storage that a forward pass keeps for its backward pass."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        # A tensor that kept itself would never be freed.
        return tensor.detach()

    single = problem.inputs[:1]
    inputs = single.expand(rows, *single.shape[1:]).clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Alive to the end, so that no storage takes the place of another.
        outputs = problem.model(inputs)
    storage = outputs.untyped_storage()
    found[storage.data_ptr()] = storage.nbytes()
    return list(found.values())


def free_bytes(device: torch.device) -> int:
    """Bytes that this process may still take on a device.

    Args:
        device: "cuda", or the CPU, where both the machine and the control groups of the
            process set limits.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds for later and does not use.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    groups = (left for folder in _group_folders() for left in group_bytes(folder))
    return min(_machine_bytes(), *groups)


def _machine_bytes() -> int:
    """MemAvailable of /proc/meminfo: what can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _UNKNOWN
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    if "MemAvailable" not in known:
        return _UNKNOWN
    return int(known["MemAvailable"].split()[0]) * 1024


def group_bytes(folder: Path) -> list[int]:
    """What the limit of a control group leaves, if it has one.

    Args:
        folder: of the group.
    """
    left = []
    for limit, usage, cache in _GROUPS:
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            used = int((folder / usage).read_text(encoding="ascii"))
            stat = (folder / "memory.stat").read_text(encoding="ascii")
        except (OSError, ValueError):
            continue
        if most.isdigit():  # not "max"
            known = dict(line.split() for line in stat.splitlines())
            left.append(max(0, int(most) - used + int(known.get(cache, 0))))
    return left


def _group_folders(root: Path = Path("/sys/fs/cgroup")) -> Iterator[Path]:
    """The folders of this process's memory groups and of those around them.

    In a container the paths are often those outside of it: then only the roots exist.
    """
    yield from (root, root / "memory")
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        place = Path(path.lstrip("/"))
        yield from (base / part for part in (place, *place.parents))


@contextmanager
def enough(examples: int) -> Iterator[None]:
    """Say in one sentence that a block of so many examples did not fit.

    Args:
        examples: of the block.

    Raises:
        UserError: memory has run out.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        cuda = isinstance(error, torch.OutOfMemoryError)
        if not cuda and not any(words in text for words in _REFUSED):
            raise
        place = "the device" if cuda else "the machine"
        remedy = f"give --block-size {max(1, examples // 2)} or less"
        if examples == 1:
            remedy = "one example is too large for it"
        raise UserError(
            f"--block-size: a block of {examples} examples does not fit into the "
            f"memory of {place}; {remedy}."
        ) from error
