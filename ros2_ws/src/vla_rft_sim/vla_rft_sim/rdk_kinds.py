"""What the vendor's binding accepts and says: kinds of arguments, and functions that check theirs as it does.

A function annotated with kinds is called like the vendor's: by position or name, converted as the binding converts,
and refused with the binding's own TypeError. Knows no robot.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

VENDOR = "flexivrdk._flexivrdk"
"""Where the vendor's classes live; part of the texts of its errors."""


class Mismatch(Exception):
    """A value that a kind does not take; the call turns it into the vendor's TypeError."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One type in the vendor's signatures.

    accepts: how an argument of it is written there; returns: how a returned value of it is; convert: the value as the
    library keeps it, or Mismatch.
    """

    accepts: str
    returns: str
    convert: Callable[[Any], Any]


def _float(value: Any) -> float:
    if isinstance(value, str | bytes) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise Mismatch
    return float(value)


def _int(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise Mismatch from None


def _bool(value: Any) -> bool:
    if value is not None and not hasattr(value, "__bool__"):
        raise Mismatch
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes):
        raise Mismatch
    return value.decode() if isinstance(value, bytes) else value


def _elements(value: Any) -> list[Any]:
    """Lists, tuples, sets, arrays and generators; never texts, mappings or plain iterators."""
    if isinstance(value, str | bytes | Mapping) or not (isinstance(value, Collection) or inspect.isgenerator(value)):
        raise Mismatch
    return list(value)


_REAL = "typing.SupportsFloat | typing.SupportsIndex"
_WHOLE = "typing.SupportsInt | typing.SupportsIndex"
FLOAT = Kind(_REAL, "float", _float)
INT = Kind(_WHOLE, "int", _int)
BOOL = Kind("bool", "bool", _bool)
TEXT = Kind("str", "str", _text)
NOTHING = Kind("None", "None", lambda value: value)


def several(kind: Kind, size: int | None = None) -> Kind:
    """A list of a kind, of a fixed size or of any."""

    def convert(value: Any) -> list[Any]:
        elements = [kind.convert(element) for element in _elements(value)]
        if size is not None and len(elements) != size:
            raise Mismatch
        return elements

    accepts, returns = f"collections.abc.Sequence[{kind.accepts}]", f"list[{kind.returns}]"
    if size is not None:
        accepts, returns = (f'typing.Annotated[{text}, "FixedSize({size})"]' for text in (accepts, returns))
    return Kind(accepts, returns, convert)


def mapping(keys: Kind, values: Kind) -> Kind:
    """A dictionary from one kind to another."""

    def convert(value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise Mismatch
        return {keys.convert(key): values.convert(element) for key, element in value.items()}

    accepts = f"collections.abc.Mapping[{keys.accepts}, {values.accepts}]"
    return Kind(accepts, f"dict[{keys.returns}, {values.returns}]", convert)


def either(*kinds: Kind) -> Kind:
    """The first of several kinds that takes the value."""

    def convert(value: Any) -> Any:
        for kind in kinds:
            try:
                return kind.convert(value)
            except Mismatch:
                continue
        raise Mismatch

    return Kind(" | ".join(k.accepts for k in kinds), " | ".join(k.returns for k in kinds), convert)


def instance(cls: type) -> Kind:
    """An object of one of the library's classes."""

    def convert(value: Any) -> Any:
        if not isinstance(value, cls):
            raise Mismatch
        return value

    return Kind(f"{VENDOR}.{cls.__name__}", f"{VENDOR}.{cls.__name__}", convert)


FLOATS = several(FLOAT)
FLOATS3, FLOATS6, FLOATS7 = (several(FLOAT, size) for size in (3, 6, 7))
TEXTS = several(TEXT)
TEXTS2 = several(TEXT, 2)


def signature_text(function: Callable[..., Any], owner: str, *, constructor: bool = False) -> str:
    """A signature as the binding writes it: `(self: …, name: kind = default) -> kind`, or a constructor's."""
    shown = []
    signature = inspect.signature(function)
    for name, parameter in list(signature.parameters.items())[1:]:
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        shown.append(f"{name}: {parameter.annotation.accepts}{default}")
    if constructor:
        return f"{VENDOR}.{owner}({', '.join(shown)})"
    returned = signature.return_annotation or NOTHING
    return f"({', '.join([f'self: {VENDOR}.{owner}', *shown])}) -> {returned.returns}"


def refusal(name: str, lines: list[str], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> TypeError:
    """The binding's TypeError for a call that fits none of its signatures."""
    what = "constructor" if name == "__init__" else "function"
    numbered = "".join(f"    {number}. {line}\n" for number, line in enumerate(lines, 1))
    given = ", ".join(map(repr, arguments))
    named = "; kwargs: " + ", ".join(f"{key}={value!r}" for key, value in keywords.items()) if keywords else ""
    return TypeError(
        f"{name}(): incompatible {what} arguments. The following argument types are supported:\n"
        f"{numbered}\nInvoked with: {given}{named}"
    )


class _Bound:
    """A method with one or more signatures, checked and converted on every call; a descriptor like a function."""

    def __init__(self, name: str, alternatives: list[Callable[..., Any]]) -> None:
        self._name = name
        self.alternatives = alternatives
        self._signatures = [inspect.signature(function) for function in alternatives]
        self._owner: type = object
        functools.update_wrapper(self, alternatives[0])

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    @property
    def signature_lines(self) -> list[str]:
        """The signatures, as the library documents them."""
        return [signature_text(function, self._owner.__name__) for function in self.alternatives]

    @property
    def lines(self) -> list[str]:
        """The signatures, as the binding writes them in its errors."""
        owner, constructor = self._owner.__name__, self._name == "__init__"
        return [signature_text(function, owner, constructor=constructor) for function in self.alternatives]

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        return self if instance is None else functools.partial(self._call, instance)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if not arguments or not isinstance(arguments[0], self._owner):
            raise refusal(self._name, self.lines, arguments, keywords)
        return self._call(*arguments, **keywords)

    def _call(self, this: Any, *arguments: Any, **keywords: Any) -> Any:
        for function, signature in zip(self.alternatives, self._signatures, strict=True):
            try:
                converted = dict(_converted(signature, this, arguments, keywords))
            except (Mismatch, TypeError):
                continue
            return function(this, **converted)
        shown = arguments if self._name == "__init__" else (this, *arguments)
        raise refusal(self._name, self.lines, shown, keywords)


def _converted(
    signature: inspect.Signature, this: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    bound = signature.bind(this, *arguments, **keywords)
    bound.apply_defaults()
    for name, parameter in list(signature.parameters.items())[1:]:
        yield name, parameter.annotation.convert(bound.arguments[name])


def binding(function: Callable[..., Any]) -> Any:
    """Make a method, annotated with kinds, behave like the vendor's."""
    return _Bound(function.__name__, [function])


def overloads(*functions: Callable[..., Any]) -> Any:
    """The same with several signatures: the first that fits is called."""
    return _Bound(functions[0].__name__, list(functions))
