"""VNN-LIB properties: an input box, and the outputs that would violate a label.

The language is a few s-expressions; they are parsed here and nothing is evaluated.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor

from summiteer.data._files import existing, read_bytes
from summiteer.errors import UserError

Expression: TypeAlias = "str | list[Expression]"

#: No property file is larger; a small .gz may unpack to anything.
_MOST = 2**28
_TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+")
_NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, eq=False)
class Property:
    """Y_label > Y_j for every rival j and every input in a box; a tie violates it.

    Attributes:
        lower: `[n]` float64, for each input the least float64 that is at least the
            bound that the file declares in decimals.
        upper: `[n]` float64, the largest that is at most the declared bound. So a
            float64 lies in [lower, upper] exactly if it lies in the declared interval.
        label: the output that has to be the largest.
        rivals: the outputs that it is compared with, in ascending order.
        outputs: how many outputs the file declares.
        name: the file.
    """

    lower: Tensor
    upper: Tensor
    label: int
    rivals: tuple[int, ...]
    outputs: int
    name: str

    def limits(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the least and the largest number of `dtype` in each interval `[n]`.

        Args:
            dtype: float32 or float64.

        Raises:
            UserError: an interval holds no number of this dtype.
        """
        lower, upper = self.lower.to(dtype), self.upper.to(dtype)
        infinity = torch.full_like(lower, torch.inf)
        low = lower.double() < self.lower
        high = upper.double() > self.upper
        lower = torch.where(low, torch.nextafter(lower, infinity), lower)
        upper = torch.where(high, torch.nextafter(upper, -infinity), upper)
        empty = (lower > upper).nonzero().flatten().tolist()
        if empty:
            names = ", ".join(f"X_{i}" for i in empty[:5])
            raise UserError(
                f"--property: {self.name} leaves no {dtype} number between the bounds "
                f"of {names}{', …' if empty[5:] else ''}; widen them to hold one."
            )
        return lower, upper

    def around(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return a centre x `[n]` and bounds l ≤ 0 ≤ h `[n]` on δ, all of `dtype`.

        For every δ of `dtype` in [l, h], x + δ lies in the declared box: as a real
        number, and rounded to `dtype` or anything finer. (With L the least number of
        `dtype` in the interval, l is the least with x + l ≥ L; rounding is monotone
        and L is rounded to itself.)

        Args:
            dtype: float32 or float64.

        Raises:
            UserError: an interval holds no number of this dtype.
        """
        lower, upper = self.limits(dtype)
        middle = (self.lower / 2 + self.upper / 2).to(dtype)
        centre = torch.minimum(torch.maximum(middle, lower), upper)
        # -(x + h ≤ U) is (-x) + (-h) ≥ -U.
        return centre, _least(centre, lower), -_least(-centre, -upper)

    def contains(self, points: Tensor) -> Tensor:
        """Return `[rows]` bool: no coordinate outside its declared interval.

        Args:
            points: `[rows, *input]` with n numbers per row.
        """
        flat = points.detach().double().flatten(1)
        return ((flat >= self.lower) & (flat <= self.upper)).all(1)


def _least(centre: Tensor, limit: Tensor) -> Tensor:
    """The least l ≤ 0 of the dtype whose real sum centre + l is at least `limit`."""
    least = limit - centre
    # TwoSum: total + error is the real sum. A rounded sum above the limit, itself a
    # number of the dtype, means a real sum above it; equal, the error decides.
    total = centre + least
    part = total - centre
    error = (centre - (total - part)) + (least - part)
    below = (total < limit) | ((total == limit) & (error < 0))
    higher = torch.nextafter(least, torch.full_like(least, torch.inf))
    return torch.where(below, higher, least).clamp(max=0)


def load_property(source: str) -> Property:
    """Return the property of a .vnnlib file.

    Understood: `(declare-const X_i Real)` and Y_j; `(assert (<= X_i number))` and >=,
    one by one or under `and`; one assertion about the outputs, `(>= Y_j Y_label)` or
    `(<= Y_label Y_j)`, or an `or` of such, each alone under `and` or not.

    Args:
        source: the file, plain or .gz.

    Raises:
        UserError: the file cannot be read, or says what is not understood (quoted).
    """
    path = existing("--property", source, "give a .vnnlib or .vnnlib.gz file")
    content = read_bytes("--property", path, _MOST + 1)
    if len(content) > _MOST:
        raise UserError(f"--property: {path} is larger than {_MOST} bytes.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"--property: {path} is not a text file.") from None
    return _Reader(path).read(text)


class _Reader:
    """What a file has said so far; every complaint names the file and quotes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        self.lower: dict[int, Fraction] = {}
        self.upper: dict[int, Fraction] = {}
        self.violation: tuple[int, set[int]] | None = None

    def read(self, text: str) -> Property:
        """The property, of the whole text."""
        for expression in self._expressions(text):
            match expression:
                case ["declare-const", str(name), "Real"]:
                    kind, index = self._name(name, expression)
                    self.declared[kind].add(index)
                case ["assert", claim]:
                    self._assert(claim)
                case _:
                    self._refuse(expression, "expected declare-const … Real or assert")
        return self._property()

    def _expressions(self, text: str) -> Iterator[Expression]:
        """The expressions of the file, one after the other; by a stack of our own."""
        stack: list[list[Expression]] = [[]]
        for token in _TOKEN.findall(text):
            if token.startswith(";"):
                continue
            if token == "(":
                stack.append([])
            elif token != ")":
                stack[-1].append(token)
            elif len(stack) == 1:
                raise UserError(f"--property: {self.path} has a ) too many.")
            else:
                done = stack.pop()
                stack[-1].append(done)
            if len(stack) == 1:
                yield from stack[0]
                stack[0] = []
        if len(stack) > 1:
            raise UserError(
                f"--property: {self.path} ends before its brackets are closed; get the "
                "file again."
            )

    def _assert(self, claim: Expression) -> None:
        if any(atom.startswith("Y") for atom in _atoms(claim)):
            if self.violation is not None:
                self._refuse(
                    claim, "expected one assertion about the outputs, this is another"
                )
            self.violation = self._violation(claim)
            return
        waiting = [claim]
        while waiting:
            match waiting.pop():
                case ["and", *parts]:
                    waiting += parts
                case ["<=" | ">=" as order, str(left), str(right)]:
                    flipped = _NUMBER.fullmatch(left) is not None
                    name, number = (right, left) if flipped else (left, right)
                    _, index = self._name(name, claim)
                    self._bound(index, (order == "<=") != flipped, number, claim)
                case _:
                    self._refuse(claim, "expected bounds of one input by numbers")

    def _bound(self, index: int, above: bool, text: str, claim: Expression) -> None:
        if not _NUMBER.fullmatch(text):
            self._refuse(claim, "expected a decimal number")
        value = Fraction(text)
        if not abs(value) <= Fraction(2) ** 120:
            self._refuse(claim, "expected a bound of moderate size")
        if above:
            self.upper[index] = min(value, self.upper.get(index, value))
        else:
            self.lower[index] = max(value, self.lower.get(index, value))

    def _violation(self, claim: Expression) -> tuple[int, set[int]]:
        """The label and its rivals: one of Y_rival ≥ Y_label."""
        form = "expected (>= Y_j Y_label), or an `or` of these with the same Y_label"
        labels, rivals, waiting = set(), set(), [claim]
        while waiting:
            match waiting.pop():
                case ["or", _, *_] as either:
                    waiting += either[1:]
                case ["and", part]:
                    waiting.append(part)
                case ["<=" | ">=" as order, str(left), str(right)]:
                    kind, high = self._name(left, claim)
                    other, low = self._name(right, claim)
                    if (kind, other) != ("Y", "Y"):
                        self._refuse(claim, form)
                    if order == "<=":
                        high, low = low, high
                    labels.add(low)
                    rivals.add(high)
                case _:
                    self._refuse(claim, form)
        if len(labels) != 1 or labels & rivals:
            self._refuse(claim, form)
        return labels.pop(), rivals

    def _property(self) -> Property:
        inputs, outputs = (self._count(kind) for kind in "XY")
        if self.violation is None:
            raise UserError(f"--property: {self.path} asserts nothing about outputs.")
        for index in range(inputs):
            lacking = [
                word
                for word, bounds in (("lower", self.lower), ("upper", self.upper))
                if index not in bounds
            ]
            if lacking:
                raise UserError(
                    f"--property: {self.path} gives X_{index} no {lacking[0]} bound."
                )
            if self.lower[index] > self.upper[index]:
                raise UserError(
                    f"--property: {self.path} bounds X_{index} below by "
                    f"{float(self.lower[index])!r} and above by "
                    f"{float(self.upper[index])!r}: the box is empty."
                )
        order = range(inputs)
        lower = [_rounded(self.lower[i], math.inf) for i in order]
        upper = [_rounded(self.upper[i], -math.inf) for i in order]
        label, rivals = self.violation
        return Property(
            torch.tensor(lower, dtype=torch.float64),
            torch.tensor(upper, dtype=torch.float64),
            label,
            tuple(sorted(rivals)),
            outputs,
            str(self.path),
        )

    def _count(self, kind: str) -> int:
        declared = self.declared[kind]
        if not declared or max(declared) + 1 != len(declared):
            raise UserError(
                f"--property: {self.path} must declare {kind}_0, {kind}_1, … without "
                f"gaps; it declares {len(declared)} of them."
            )
        return len(declared)

    def _name(self, name: str, quoted: Expression) -> tuple[str, int]:
        found = _NAME.fullmatch(name)
        if found is None:
            self._refuse(quoted, "expected names X_0, X_1, … and Y_0, Y_1, …")
        kind, index = found[1], int(found[2])
        asserted = not (isinstance(quoted, list) and quoted[0] == "declare-const")
        if asserted and index not in self.declared[kind]:
            self._refuse(quoted, f"{name} is not declared")
        return kind, index

    def _refuse(self, expression: Expression, reason: str) -> NoReturn:
        text = _quoted(expression)
        raise UserError(f"--property: {self.path}: {text} is not understood: {reason}.")


def _atoms(expression: Expression) -> Iterator[str]:
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        else:
            waiting += part


def _quoted(expression: Expression, most: int = 80) -> str:
    """The beginning of an expression as it was written."""
    waiting: list[Expression] = [expression]
    text = ""
    while waiting and len(text) <= most:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += [")", *reversed(part), "("]
        else:
            space = text and not text.endswith("(") and part != ")"
            text += f" {part}" if space else part
    return text if len(text) <= most else f"{text[:most]}…"


def _rounded(value: Fraction, towards: float) -> float:
    """`value` as a float64, rounded towards +∞ or -∞."""
    nearest = float(value)
    wrong = nearest < value if towards > 0 else nearest > value
    return math.nextafter(nearest, towards) if wrong else nearest
