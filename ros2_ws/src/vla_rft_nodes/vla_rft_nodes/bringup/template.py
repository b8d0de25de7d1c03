"""Text with `$(...)` in it: parsing, and expansion in a scope. Follows the grammar of upstream `launch`.

The substitutions are the few our launch files use; `eval` runs no Python, only comparisons of literals.
"""

from __future__ import annotations

import ast
import operator
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .find import package_share
from .model import LaunchError, Substitution, Template, alternatives

ARGUMENT_COUNT = {"var": (1, 2), "env": (1, 2), "find-pkg-share": (1, 1), "dirname": (0, 0), "eval": (1, 1)}
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass
class Scope:
    """Where a template is expanded: launch configurations (name → text), the file it stands in, the environment."""

    path: Path
    configurations: dict[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def parse_template(text: str) -> Template:
    """Split `text` into literal pieces and substitutions; a backslash keeps the next character literal."""
    reader = _Reader(text)
    template = reader.template(stop="")
    return template or ("",)


class _Reader:
    """Recursive descent over one string."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def peek(self, prefix: str) -> bool:
        return self.text.startswith(prefix, self.at)

    def template(self, *, stop: str) -> Template:
        """Everything up to an unescaped character of `stop` or the end; `stop` itself is not consumed."""
        parts: list[str | Substitution] = []
        literal = ""
        while self.at < len(self.text) and self.text[self.at] not in (stop or "\0"):
            if self.peek("$("):
                parts += [literal] if literal else []
                literal = ""
                # Inside quotes, nested arguments are bare words: the quotes around the whole are already in use.
                parts.append(self.substitution(may_quote=stop not in ("'", '"')))
                continue
            if self.peek("\\") and self.at + 1 < len(self.text):
                self.at += 1
            literal += self.text[self.at]
            self.at += 1
        return tuple([*parts, literal] if literal else parts)

    def substitution(self, *, may_quote: bool) -> Substitution:
        self.at += 2
        match = IDENTIFIER.match(self.text, self.at)
        if not match:
            raise LaunchError(f"'{self.text}' has '$(' without a name after it; write '\\$(' for the plain characters")
        name, self.at = match.group(), match.end()
        args = []
        while self.peek(" "):
            self.at += 1
            args.append(self.argument(may_quote=may_quote))
        if not self.peek(")"):
            raise LaunchError(f"'$({name}' is not closed with ')' in '{self.text}'")
        self.at += 1
        if name not in ARGUMENT_COUNT:
            raise LaunchError(f"unknown substitution '$({name} ...)'{alternatives(name, ARGUMENT_COUNT)}")
        low, high = ARGUMENT_COUNT[name]
        if not low <= len(args) <= high:
            hint = "; put the expression in double quotes" if name == "eval" else ""
            wanted = str(low) if low == high else f"{low} or {high}"
            raise LaunchError(f"$({name} ...) takes {wanted} argument(s), got {len(args)} in '{self.text}'{hint}")
        return Substitution(name, tuple(args))

    def argument(self, *, may_quote: bool) -> Template:
        if may_quote and self.at < len(self.text) and self.text[self.at] in "'\"":
            quote = self.text[self.at]
            self.at += 1
            template = self.template(stop=quote)
            if not self.peek(quote):
                raise LaunchError(f"a quote is not closed in '{self.text}'")
            self.at += 1
            return template or ("",)
        template = self.template(stop=" )")
        if not template:
            raise LaunchError(f"an argument is missing in '{self.text}'; arguments are separated by exactly one space")
        return template


def expand(template: Template, scope: Scope) -> str:
    """The text of `template` with every substitution replaced."""
    return "".join(part if isinstance(part, str) else _perform(part, scope) for part in template)


def _perform(substitution: Substitution, scope: Scope) -> str:
    args = [expand(arg, scope) for arg in substitution.args]
    match substitution.name:
        case "var":
            found = scope.configurations.get(args[0], args[1] if len(args) > 1 else None)
            if found is None:
                raise LaunchError(
                    f"$(var {args[0]}) is not set here{alternatives(args[0], scope.configurations)}; "
                    "declare it with 'arg' or 'let' above its use"
                )
            return found
        case "env":
            found = scope.environment.get(args[0], args[1] if len(args) > 1 else None)
            if found is None:
                raise LaunchError(
                    f"environment variable {args[0]} is not set; $(env {args[0]} DEFAULT) gives a default"
                )
            return found
        case "find-pkg-share":
            return str(package_share(args[0]))
        case "dirname":
            return str(scope.path.parent)
        case _:
            return str(evaluate(args[0]))


_COMPARE: dict[type[ast.cmpop], Callable[[object, object], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right,  # type: ignore[operator]
    ast.NotIn: lambda left, right: left not in right,  # type: ignore[operator]
}


def evaluate(expression: str) -> object:
    """Value of literals joined by `== != in 'not in' and or not`; anything else is refused, nothing is executed."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise LaunchError(
            f"cannot evaluate {expression!r} ({error}); allowed are quoted text, numbers, True, False, lists, "
            "==, !=, in, not in, and, or, not, as in $(eval \"'$(var backend)' == 'sim'\")"
        ) from None


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=str() | bool() | int() | float() as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand)
        case ast.BoolOp(op=ast.And(), values=values):
            return _first(values, stop_at=False)
        case ast.BoolOp(op=ast.Or(), values=values):
            return _first(values, stop_at=True)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](_value(left), _value(right))
        case ast.Name(id=name):
            raise ValueError(f"the bare word {name!r} is not a value: quote it")
    raise ValueError(f"{ast.unparse(node)!r} is not supported")


def _first(values: list[ast.expr], *, stop_at: bool) -> object:
    """Python's `and` (stop at the first false value) and `or` (stop at the first true one)."""
    value: object = None
    for node in values:
        value = _value(node)
        if bool(value) is stop_at:
            break
    return value


def truth(template: Template, scope: Scope) -> bool:
    """A condition's value; only true, 1, false and 0 count, in any case, as upstream has it."""
    text = expand(template, scope).strip().lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise LaunchError(f"a condition came out as '{text}'; it must be true, false, 1 or 0")
