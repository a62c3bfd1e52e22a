"""Whether a forward written in Python does the same for tensors as for a tracer.

Tracing sees one path through the code. It is the only one if the code cannot tell a
tensor from a tracer's stand-in, keeps no state and catches no error: code of few
instructions, that names nothing but layers, known functions and constants.
"""

import builtins
import dis
import math
import operator
from abc import ABCMeta
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.nn import functional

from summiteer.networks.construction import Unknown
from summiteer.networks.layers import FUNCTIONS, LAYERS, METHODS


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_MODULES = (torch, nn, functional, operator, math)
_BUILTINS = _words("range enumerate zip len reversed int float tuple list super")
#: Attributes of tensors, of the modules above and of containers; others must be the
#: model's own.
_ATTRIBUTES = {
    *METHODS,
    *(getattr(function, "__name__", "") for function in FUNCTIONS),
    *_words("nn functional forward max_pool2d relu_ shape training items values keys"),
    *_words("pi sqrt prod"),
}
#: What a user's class may define although nn.Module does too.
_OWN = _words(
    "__init__ __module__ __doc__ __qualname__ __dict__ __weakref__ __annotations__ "
    "__annotate__ __annotations_cache__ __annotate_func__ "
    "__parameters__ __orig_bases__ __firstlineno__ __static_attributes__ __repr__ "
    "__abstractmethods__ _abc_impl __constants__ __slotnames__ forward extra_repr "
    "dump_patches T_destination _version _load_from_state_dict _save_to_state_dict "
    "state_dict load_state_dict"
)
#: Changing a list or a dict of the model would be a state.
_MUTATORS = _words("append extend insert pop popitem remove clear update setdefault")
#: Instructions of straight code, loops and branches, in every version of Python: no
#: stores into objects, no `try` or `with`, no formatting, no generators.
_INSTRUCTIONS = _words(
    "RESUME CACHE NOP POP_TOP PUSH_NULL COPY SWAP PRECALL CALL CALL_KW "
    "CALL_FUNCTION_EX KW_NAMES LOAD_GLOBAL LOAD_ATTR LOAD_METHOD LOAD_SUPER_ATTR "
    "LOAD_DEREF LOAD_CLOSURE MAKE_CELL COPY_FREE_VARS STORE_DEREF MAKE_FUNCTION "
    "SET_FUNCTION_ATTRIBUTE RETURN_VALUE RETURN_CONST BINARY_OP BINARY_SUBSCR "
    "BINARY_SLICE BUILD_SLICE BUILD_TUPLE BUILD_LIST BUILD_MAP BUILD_CONST_KEY_MAP "
    "LIST_APPEND LIST_EXTEND LIST_TO_TUPLE CALL_INTRINSIC_1 DICT_MERGE DICT_UPDATE "
    "UNPACK_SEQUENCE UNPACK_EX GET_ITER FOR_ITER END_FOR POP_ITER COMPARE_OP IS_OP "
    "TO_BOOL LOAD_ASSERTION_ERROR LOAD_COMMON_CONSTANT RAISE_VARARGS RERAISE "
    "EXTENDED_ARG NOT_TAKEN LOAD_SMALL_INT UNARY_NEGATIVE UNARY_NOT UNARY_INVERT "
    "UNARY_POSITIVE"
)
_FAMILIES = ("LOAD_FAST", "STORE_FAST", "DELETE_FAST", "LOAD_CONST", "JUMP", "POP_JUMP")
_PLAIN = (int, float, str, bool, type(None), torch.Size, torch.dtype, torch.device)


def refuse_other_code(modules: list[nn.Module], known: tuple[type, ...]) -> None:
    """Refuse modules whose code might not do what its trace says.

    Args:
        modules: all of a model; the forward methods of those that are no layers of
            torch are read.
        known: torch's own containers.

    Raises:
        Unknown: with the class or function and what is wrong with it.
    """
    reading = _Reading(modules)
    others = {type(module) for module in modules} - {*LAYERS, *known}
    for owner in others:
        _refuse_other_class(owner, known)
        reading.classes |= set(_own_classes(owner, known))
    for owner in others:
        reading.value(owner.forward, f"{owner.__name__}.forward")
    if reading.assigns and reading.mutable:
        # x = self.list; x += [1] changes the model.
        raise Unknown(f"{reading.assigns} assigns in place, and {reading.mutable}")


def _own_classes(owner: type, known: tuple[type, ...]) -> Iterator[type]:
    for base in owner.__mro__:
        if base not in (*known, nn.Module, Generic, object):
            yield base


def _refuse_other_class(owner: type, known: tuple[type, ...]) -> None:
    name = owner.__name__
    if type(owner) not in (type, ABCMeta):
        raise Unknown(f"{name} has a metaclass")
    torchs = {name for base in owner.__mro__ if base in known for name in dir(base)}
    torchs |= set(dir(nn.Module))
    for base in _own_classes(owner, known):
        if base in LAYERS:
            raise Unknown(f"{name} is a sub-class of {base.__name__}")
        for attribute in vars(base):
            special = attribute.startswith("__") and attribute.endswith("__")
            if attribute not in _OWN and (special or attribute in torchs):
                raise Unknown(f"{name} has its own {attribute}")


class _Reading:
    """Reads code, and what its names mean, once each."""

    def __init__(self, modules: list[nn.Module]) -> None:
        #: The function that has x += y, and the attribute that it might change.
        self.assigns = self.mutable = ""
        self.seen: set[int] = set()
        self.classes: set[type] = set()
        self.held: dict[str, list[Any]] = {}
        for module in modules:
            for name, value in vars(module).items():
                self.held.setdefault(name, []).append(value)
            tensors = (module._parameters, module._buffers, module._modules)
            for named in tensors:
                for name in named:
                    self.held.setdefault(name, [])

    def value(self, value: Any, where: str) -> None:
        """Refuse what is not a constant, a known function or readable code."""
        if isinstance(value, FunctionType) and value not in FUNCTIONS:
            self._function(value, where)
        elif isinstance(value, staticmethod | classmethod):
            self.value(value.__func__, where)
        elif type(value) is property:
            self.value(value.fget, where)
        elif type(value) in (tuple, list):
            for one in value:
                self.value(one, where)
        elif type(value) is dict:
            for key, one in value.items():
                self.value((key, one), where)
        elif type(value) is partial:
            self.value((value.func, value.args, value.keywords), where)
        elif type(value) not in (*_PLAIN, Tensor, nn.Parameter) and not (
            isinstance(value, nn.Module) or _known_function(value)
        ):
            raise Unknown(f"{where} is a {type(value).__name__}")

    def _function(self, function: FunctionType, where: str) -> None:
        if id(function) in self.seen:
            return
        self.seen.add(id(function))
        defaults = (function.__defaults__, function.__kwdefaults__)
        for default in defaults:
            self.value(default, f"a default of {where}")
        code = function.__code__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            if name != "__class__":
                self.value(cell.cell_contents, f"{name} in {where}")
        self._code(code, function.__globals__, where)

    def _code(self, code: CodeType, names: dict[str, Any], where: str) -> None:
        if code.co_flags & _GENERATOR:
            raise Unknown(f"{where} is a generator")
        before: dis.Instruction | None = None
        for instruction in dis.get_instructions(code):
            self._instruction(instruction, before, code, names, where)
            before = instruction
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant, names, where)

    def _instruction(
        self,
        instruction: dis.Instruction,
        before: dis.Instruction | None,
        code: CodeType,
        names: dict[str, Any],
        where: str,
    ) -> None:
        kind, name = instruction.opname, instruction.argval
        if kind not in _INSTRUCTIONS and not kind.startswith(_FAMILIES):
            raise Unknown(f"{where} uses {kind}: state, errors or text")
        if kind == "BINARY_OP" and instruction.argrepr.startswith("%"):
            raise Unknown(f"{where} uses %")
        if kind == "BINARY_OP" and instruction.argrepr.endswith("="):
            self.assigns = where
        if kind == "IS_OP" and not (before and before.argrepr == "None"):
            raise Unknown(f"{where} compares by `is`")
        if kind == "STORE_DEREF" and name in code.co_freevars:
            raise Unknown(f"{where} changes {name} outside of it")
        if kind == "LOAD_GLOBAL":
            self._global(name, names, where)
        if kind in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            self._attribute(name, where)

    def _global(self, name: str, names: dict[str, Any], where: str) -> None:
        if name not in names:
            if name in _BUILTINS and names.get("__builtins__") in (
                builtins,
                vars(builtins),
            ):
                return
            raise Unknown(f"{where} uses {name}")
        value = names[name]
        if not (isinstance(value, ModuleType) and value in _MODULES):
            self.value(value, f"{name} in {where}")

    def _attribute(self, name: str, where: str) -> None:
        found = [vars(owner)[name] for owner in self.classes if name in vars(owner)]
        held = self.held.get(name)
        known = name in _ATTRIBUTES or found or held is not None
        if not known or name in _MUTATORS or name.startswith("__"):
            raise Unknown(f"{where} uses the attribute {name}")
        for value in (*found, *(held or [])):
            self.value(value, name)
            if type(value) in (list, dict) or isinstance(value, Tensor):
                self.mutable = f"{where} uses the attribute {name}"


_GENERATOR = 0x20 | 0x80 | 0x100 | 0x200


def _known_function(value: Any) -> bool:
    try:
        return value in FUNCTIONS
    except TypeError:
        return False
