"""Reads the outline of pickled weights without executing code in them.

A pickle is a program for a stack machine, and `pickle.load` calls any function that it names. This module interprets the opcodes itself:
a call is only recorded, or replaced by an outline if it rebuilds a tensor. Work and memory are bounded for hostile files.
"""

import pickletools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any


class UnreadableWeights(Exception):
    """The file cannot be read as weights. The text is a clause about the file that begins with "it" or "the file"."""


class DamagedPickle(UnreadableWeights):
    """A pickle in the file is truncated or invalid."""


class UnfitTensors(Exception):
    """The file is sound, but its tensors do not fit the model. The text names them."""


def conversion(name: str, keys: Sequence[str] = (), *, is_model: bool = False) -> str:
    """Instructions to convert a file that only a full unpickler can read into safetensors: two lines of Python in backquotes.

    `keys` lead to the state dict in the checkpoint; `is_model` is for a pickled module.
    """
    target = PurePath(name).with_suffix(".safetensors").name
    path = "".join(f"[{key!r}]" for key in keys) + (".state_dict()" if is_model else "")
    first = f'import torch; state = torch.load({name!r}, map_location="cpu", weights_only=False){path}'
    second = (
        "from safetensors.torch import save_file; "
        f"save_file({{k: v.clone().contiguous() for k, v in state.items() if torch.is_tensor(v)}}, {target!r})"
    )
    return f"if you trust its source, since loading runs the code that the file names, convert it with two lines: `{first}` and `{second}`"


MOST_OPCODES = 1_000_000  # the largest model of the catalogue with its optimizer's state takes about 150,000
MOST_GIVEN = 1_000_000  # entries in the arguments of all calls together; 16 characters of text count as one entry
MOST_DIMENSIONS = 8
LARGEST_KEY = 2**31  # of a dict with integer keys, such as an optimizer's; larger integers can be chosen to collide as hashes

REBUILD = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"})
DTYPE = re.compile(r"torch\.(float(16|32|64)|bfloat16|u?int(8|16|32|64)|bool|half|float|double|long|int|short)")
STORAGES: Mapping[str, tuple[str, int]] = {  # dtype, bytes of an element
    "DoubleStorage": ("float64", 8), "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2), "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8), "IntStorage": ("int32", 4), "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
HARMLESS = frozenset(
    {
        "collections.OrderedDict", "collections.Counter", "torch.nn.parameter.Parameter", "torch.Size", "torch.device", "_codecs.encode",
        "torch._utils._rebuild_parameter", *(f"torch._utils.{name}" for name in REBUILD), *(f"torch.{name}" for name in STORAGES),
    }
)  # fmt: skip
"""Names that torch's safe loader accepts by default, besides dtypes."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of numbers that the pickle refers to."""

    key: str
    dtype: str
    numel: int
    itemsize: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return self.numel * self.itemsize


@dataclass(frozen=True, slots=True)
class TensorOutline:
    """A tensor's shape, dtype and storage; the storage is None in a safetensors file."""

    shape: tuple[int, ...]
    dtype: str
    storage: Storage | None = None

    @property
    def is_floating_point(self) -> bool:
        """Whether the dtype is one."""
        return "float" in self.dtype


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle imports."""

    name: str


@dataclass(slots=True)
class Pickled:
    """The content of a pickle: dicts, lists, tuples, text, integers and TensorOutlines; None in place of anything else."""

    root: Any = None
    foreign: list[str] = field(default_factory=list)  # names and features that torch's safe loader refuses, in the order of the file
    storages: dict[str, Storage] = field(default_factory=dict)
    end: int = 0  # position behind the pickle


def read_pickle(content: bytes, start: int = 0) -> Pickled:
    """The content of the pickle at position `start`. Raises UnreadableWeights if it is damaged or exceeds a bound."""
    reader = _Reader()
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(content[start:] if start else content)):
            if count >= MOST_OPCODES:
                raise UnreadableWeights(f"it has a pickle of more than {MOST_OPCODES:,} steps, which no state dict needs")
            if opcode.name == "STOP":
                reader.found.root = reader.stack.pop()
                reader.found.end = start + int(position or 0) + 1
                return reader.found
            reader.take(opcode.name, argument)
    except UnreadableWeights:
        raise
    except Exception:  # a damaged pickle makes pickletools and the stack raise many kinds of exceptions
        raise DamagedPickle("it is damaged: its pickle cannot be read") from None
    raise DamagedPickle("it is cut short: its pickle has no end")


class _Reader:
    """A pickle machine that builds only the outline of a state dict."""

    def __init__(self) -> None:
        self.found = Pickled()
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stack below each mark
        self._memo: dict[int, Any] = {}
        self._given = 0  # entries of arguments so far

    def take(self, name: str, argument: Any) -> None:
        """Perform one opcode. Raises UnreadableWeights for an opcode that torch.save does not write; IndexError and others if damaged."""
        if name in VALUES:
            self.stack.append(argument if VALUES[name] else None)
        elif name in TOO_NEW:
            self._foreign("a pickle protocol above 3")
            if name != "FRAME":
                self.stack.append(argument)
        elif name in OPCODES:
            OPCODES[name](self, argument)
        else:
            raise UnreadableWeights("it is a pickle that torch.save did not write")

    def _empty_set(self) -> None:
        self._foreign("builtins.set")
        self.stack.append(None)

    def _mark(self) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _tuple(self) -> None:
        items = tuple(self._above_mark())
        self.stack.append(items)

    def _short_tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _put(self, place: int) -> None:
        self._memo[place] = self.stack[-1]

    def _get(self, place: int) -> None:
        self.stack.append(self._memo[place])

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _import(self, argument: str) -> None:
        self.stack.append(self._global(*argument.split(" ", 1)))

    def _import_from_stack(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._global(str(module), str(attribute)))

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._give(arguments)
        for one in arguments if isinstance(arguments, tuple) else ():
            self._give(one)
        self.stack.append(self._called(function, arguments))

    def _build(self) -> None:
        self._give(self.stack.pop())

    def _give(self, value: Any) -> None:
        """Count the arguments of a call. Raises UnreadableWeights above MOST_GIVEN.

        torch's loader copies them, so a small pickle that passes one large memoised value to many calls would exhaust its memory.
        """
        if isinstance(value, tuple | list | dict | str | bytes):
            self._given += len(value) // 16 if isinstance(value, str | bytes) else len(value)
        if self._given > MOST_GIVEN:
            raise UnreadableWeights("it has a pickle that repeats large values, which no state dict needs")

    def _above_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self._below.pop()
        return items

    def _extend(self, items: Iterable[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, tuple | list | dict) or (isinstance(key, int) and not -1 <= key < LARGEST_KEY):
                self._foreign("a dict whose keys are neither text nor small numbers")  # torch's loader hashes them, which can be slow
            if isinstance(target, dict) and isinstance(key, str):
                target[key] = value

    def _global(self, module: str, name: str) -> Global:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full not in HARMLESS and not DTYPE.fullmatch(full):
            self._foreign(full)
        return Global(full)

    def _foreign(self, name: str) -> None:
        name = name[:120]
        if name not in self.found.foreign and len(self.found.foreign) < 100:
            self.found.foreign.append(name)

    def _called(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return None
        module, _, name = function.name.rpartition(".")
        if function.name == "collections.OrderedDict":
            return self._ordered(arguments)
        if module == "torch._utils" and name in REBUILD:
            return _tensor(*arguments[:4])
        if function.name in ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter") and arguments:
            return arguments[0]
        return None

    def _ordered(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """An OrderedDict of its list of pairs, which Python 2 wrote as a list of lists."""
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        ordered = dict[str, Any]()
        for pair in pairs:
            if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str):
                ordered[pair[0]] = pair[1]
            else:
                self._foreign("a dict whose keys are neither text nor small numbers")
        return ordered

    def _storage(self, identity: Any) -> Storage | None:
        match identity:
            case ("storage", Global(name), str(key), str(), int(numel), *_) if name.removeprefix("torch.") in STORAGES and numel >= 0:
                dtype, itemsize = STORAGES[name.removeprefix("torch.")]
                storage = Storage(key, dtype, numel, itemsize)
                self.found.storages.setdefault(key, storage)
                return storage
        return None


def _tensor(storage: Any = None, offset: Any = None, shape: Any = None, stride: Any = None) -> TensorOutline | None:
    """The outline of a rebuilt tensor. Raises UnreadableWeights if it exceeds its storage."""
    if not isinstance(storage, Storage) or not isinstance(offset, int) or offset < 0 or not _are_sizes(shape) or not _are_sizes(stride):
        return None
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.numel:
        raise UnreadableWeights("it is damaged: a tensor is larger than its storage")
    return TensorOutline(tuple(shape), storage.dtype, storage)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= MOST_DIMENSIONS and all(isinstance(size, int) and 0 <= size < 2**48 for size in value)


VALUES: Mapping[str, bool] = {
    "NONE": False, "NEWTRUE": False, "NEWFALSE": False, "BINFLOAT": False,
    "BININT": True, "BININT1": True, "BININT2": True, "LONG1": True, "BINUNICODE": True, "SHORT_BINSTRING": True,
}  # fmt: skip
"""Opcodes that push a value, and whether the outline keeps it."""
TOO_NEW = frozenset({"FRAME", "SHORT_BINUNICODE", "BINUNICODE8"})
OPCODES: Mapping[str, Callable[[_Reader, Any], object]] = {
    "PROTO": lambda reader, _: None,
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append(()),
    "EMPTY_SET": lambda reader, _: reader._empty_set(),
    "MARK": lambda reader, _: reader._mark(),
    "TUPLE": lambda reader, _: reader._tuple(),
    "TUPLE1": lambda reader, _: reader._short_tuple(1),
    "TUPLE2": lambda reader, _: reader._short_tuple(2),
    "TUPLE3": lambda reader, _: reader._short_tuple(3),
    "BINPUT": lambda reader, place: reader._put(place),
    "LONG_BINPUT": lambda reader, place: reader._put(place),
    "MEMOIZE": lambda reader, _: reader._put(len(reader._memo)),
    "BINGET": lambda reader, place: reader._get(place),
    "LONG_BINGET": lambda reader, place: reader._get(place),
    "APPEND": lambda reader, _: reader._extend([reader.stack.pop()]),
    "APPENDS": lambda reader, _: reader._extend(reader._above_mark()),
    "SETITEM": lambda reader, _: reader._set_item(),
    "SETITEMS": lambda reader, _: reader._set_items(reader._above_mark()),
    "ADDITEMS": lambda reader, _: reader._above_mark(),
    "GLOBAL": lambda reader, name: reader._import(name),
    "STACK_GLOBAL": lambda reader, _: reader._import_from_stack(),
    "REDUCE": lambda reader, _: reader._call(),
    "NEWOBJ": lambda reader, _: reader._call(),
    "BUILD": lambda reader, _: reader._build(),
    "BINPERSID": lambda reader, _: reader.stack.append(reader._storage(reader.stack.pop())),
}
