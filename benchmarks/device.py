"""The ascent on a GPU, against what its arithmetic and its memory allow.

Two floors of a forward and backward pass: its floating-point operations over the rate
of a large matrix product, and the bytes that its operations read and write over the
bandwidth of a large copy; rate and bandwidth are measured in the same run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import counts, loops
from benchmarks.any_model import per_evaluation
from benchmarks.loops import BARE, MODELS, SAME, STOPPING, make_case
from benchmarks.peers import Case
from benchmarks.section import Line, Section, table
from benchmarks.timing import Ratio, in_turns

TITLE = "On a GPU"
OVERHEAD = 1.05
MLP, CONV, RESNET = MODELS
#: Rows and columns of the product, numbers in the copy.
PRODUCT, COPY = 8192, 1 << 28
PRECISIONS = ("float32", "tf32", "bfloat16")
CASES = ((MLP, 1024), (MLP, 16384), (CONV, 1024), (RESNET, 256), (RESNET, 1024))
STEPS, ROUNDS = 50, 9


@dataclass(frozen=True)
class Peaks:
    """Of the device: operations per second by precision, bytes per second."""

    rate: dict[str, float]
    bandwidth: float


@dataclass(frozen=True)
class Floors:
    """Of one pass: seconds that its arithmetic, and its memory, take at least."""

    arithmetic: float
    memory: float

    @property
    def most(self) -> float:
        """The one that binds."""
        return max(self.arithmetic, self.memory)


class Moved(TorchDispatchMode):
    """Bytes of the tensors that operations read and write, each once per operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        written = result if isinstance(result, tuple | list) else (result,)
        if not operation.is_view:
            for tensor in (*arguments, *written):
                if isinstance(tensor, Tensor):
                    self.bytes += tensor.numel() * tensor.element_size()
        return result


@contextmanager
def precision(name: str) -> Iterator[torch.dtype]:
    """The dtype of a precision; in tf32 products of float32 are rounded."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield torch.bfloat16 if name == "bfloat16" else torch.float32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before[0]
        torch.backends.cudnn.allow_tf32 = before[1]


def finished(function: Callable[[], Any], device: str) -> Callable[[], None]:
    """The call, and the wait until the device has done it."""

    def call() -> None:
        function()
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def seconds(function: Callable[[], Any], device: str, times: int = 10) -> float:
    """The least of a few calls."""
    call, taken = finished(function, device), []
    call()
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def peaks(device: str, size: int = PRODUCT, numbers: int = COPY) -> Peaks:
    """What the device does at its best."""
    rate = {}
    for name in PRECISIONS:
        with precision(name) as dtype:
            left, right = torch.randn(2, size, size, device=device).to(dtype)
            took = seconds(lambda a=left, b=right: a @ b, device)
            rate[name] = 2 * size**3 / took
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    took = seconds(lambda: target.copy_(source), device)
    return Peaks(rate, 2 * numbers * source.element_size() / took)


def floors(case: Case, name: str, best: Peaks) -> Floors:
    """Of a pass of a case in a precision."""
    inputs = case.inputs.detach().requires_grad_()

    def once() -> None:
        outputs = case.model(inputs)
        functional.cross_entropy(outputs, case.labels, reduction="sum").backward()

    # The counter does not know `autograd.grad`.
    with FlopCounterMode(display=False) as counter:
        once()
    with Moved() as moved:
        once()
    arithmetic = counter.get_total_flops() / best.rate[name]
    return Floors(arithmetic, moved.bytes / best.bandwidth)


def in_dtype(case: Case, dtype: torch.dtype) -> Case:
    """The same case, its model in another dtype."""
    return replace(case, model=case.model.to(dtype), inputs=case.inputs.to(dtype))


def memory(function: Callable[[], Any]) -> float:
    """MiB that a call takes of a GPU at its peak, beyond what was there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return float(torch.cuda.max_memory_allocated() - before) / 2**20


@dataclass(frozen=True)
class Row:
    """One case in one precision; times are those of one gradient evaluation."""

    cells: tuple[object, ...]
    overhead: Ratio
    grown: float


def row(case: Case, model: str, name: str, best: Peaks, device: str) -> Row:
    """Time passes, the bare loop and ours in turns."""
    floor = floors(case, name, best)
    evaluations = {BARE: case.steps, "passes": case.steps}
    for each in (SAME, STOPPING):
        evaluations[each] = round(loops.evaluations(each, case) / case.batch)
    functions: dict[str, Callable[[], Any]] = {
        "passes": lambda: loops.passes(case, case.steps),
        BARE: lambda: loops.bare(case),
        SAME: lambda: loops.same_work(case),
        STOPPING: lambda: loops.stopping(case),
    }
    timed = in_turns({k: finished(f, device) for k, f in functions.items()}, ROUNDS)
    each = {k: per_evaluation(took, evaluations[k]) for k, took in timed.items()}
    ratios = [each[k].over(each["passes"]) for k in (BARE, SAME, STOPPING)]
    grown = 1.0
    if device == "cuda":
        grown = memory(functions[SAME]) / memory(functions[BARE])
    milliseconds = [1e3 * x for x in (floor.arithmetic, floor.memory)]
    passed = each["passes"].median
    cells = (
        *(model, case.norm, case.batch, name),
        *(f"{x:.3f}" for x in milliseconds),
        f"{1e3 * passed:.3f}",
        f"{passed / floor.most:.1f}",
        *map(str, ratios),
        f"{grown:.2f}",
    )
    return Row(cells, ratios[1], grown)


HEAD = (
    *("model", "norm", "batch", "precision", "arithmetic, ms", "memory, ms"),
    *("pass, ms", "pass / floor", BARE, SAME, STOPPING, "memory"),
)


def waits(device: str) -> tuple[str, Line]:
    """Copies to the host per step, at two batches."""
    rows, most = [], 0.0
    for batch in (64, 4096):
        for norm in ("l2", "linf"):
            case = make_case(MLP, norm, batch, 1, device)
            for name in (SAME, STOPPING):
                run = loops.CONTESTANTS[name]
                found = counts.per_step(lambda n, c=case, r=run: r(replace(c, steps=n)))
                rows.append((norm, name, batch, f"{found.waits:.1f}", found.copies))
                most = max(most, found.copies)
    line = Line("copies from the GPU in a step", "0", f"{most:.1f}", most == 0)
    return table(("norm", "loop", "batch", "waits", "copies"), rows), line


TEXT = """A forward and backward pass against two floors: its operations over the rate
of a large matrix product ({rate} TFLOP/s), and the bytes that its operations read and
write over the bandwidth of a large copy ({bandwidth:.0f} GB/s), both measured in this
run. The last columns are the time of one gradient evaluation of a loop over that of a
pass, and the memory that `ascend` (same work) takes over the bare loop's.

{rows}

Numbers that the host waits for, and copies, of one more step:

{waits}
"""


def measured(
    device: str,
    best: Peaks,
    cases: tuple[tuple[str, int], ...] = CASES,
    steps: int = STEPS,
) -> Section:
    """The section, on a device that is there."""
    rows = []
    for model, batch in cases:
        for norm in ("l2", "linf"):
            for name in PRECISIONS:
                with precision(name) as dtype:
                    case = in_dtype(make_case(model, norm, batch, steps, device), dtype)
                    rows.append(row(case, model, name, best, device))
    told, line = waits(device)
    worst = max((each.overhead for each in rows), key=lambda ratio: ratio.value)
    lines = [
        Line(
            "`ascend`, same work, over passes alone, on a GPU",
            f"≤ {OVERHEAD}",
            f"{worst}, the worst of {len(rows)}",
            worst.value <= OVERHEAD,
        ),
        line,
    ]
    rate = ", ".join(f"{name} {x / 1e12:.1f}" for name, x in best.rate.items())
    text = TEXT.format(
        rate=rate,
        bandwidth=best.bandwidth / 1e9,
        rows=table(HEAD, [each.cells for each in rows]),
        waits=told,
    )
    return Section(TITLE, text, lines)


def measure(quick: bool) -> Section:
    """Where there is a CUDA device; what is not measured is said."""
    if not torch.cuda.is_available():
        text = (
            "Not measured: no CUDA device. `tests/test_gpu.py` counts on the CPU what "
            "a step would wait for on a GPU."
        )
        line = Line("the ascent on a GPU", "against two floors", "not measured", None)
        return Section(TITLE, text, [line])
    if quick:
        return measured("cuda", peaks("cuda", 1024, 1 << 22), CASES[:1], 5)
    return measured("cuda", peaks("cuda"))
