"""The arithmetic of OpenAI's multi grader: names of graders, numbers, `+ - * / ^`, brackets and a few functions."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from luthier.core.errors import SettingsError, nearest

_Operation = Callable[[float, float], float]
_OPERATIONS: dict[type[ast.operator], _Operation] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: lambda left, right: left / right, ast.Pow: math.pow,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": math.fabs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt,
    "log": math.log,
}  # fmt: skip
_LONGEST = 1000


class Expression:
    """A formula over named scores."""

    def __init__(self, text: str, names: tuple[str, ...], where: str) -> None:
        """Read a formula; raise SettingsError where it is none, or uses a name that no score has."""
        self._where = where
        try:
            if len(text) > _LONGEST:
                raise SyntaxError(f"it is longer than {_LONGEST} characters")
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise SettingsError(f"{where}: {text[:80]!r} is not a formula: {error}.") from error
        self._ensure_known(self._tree, names)

    def value(self, scores: Mapping[str, float]) -> float | None:
        """Return the value for some scores; None where there is none, as of a division by zero."""
        try:
            value = float(self._value(self._tree, scores))
        except (ArithmeticError, ValueError):
            return None
        return value if math.isfinite(value) else None

    def _value(self, node: ast.expr, scores: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return scores[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, scores)
            case ast.BinOp(left=left, op=sign, right=right):
                return _OPERATIONS[type(sign)](self._value(left, scores), self._value(right, scores))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return float(_FUNCTIONS[name](*(self._value(argument, scores) for argument in arguments)))
            case _:
                raise AssertionError(ast.dump(node))

    def _ensure_known(self, node: ast.expr, names: tuple[str, ...]) -> None:
        match node:
            case ast.Constant(value=bool() | str() | bytes() | None):
                raise SettingsError(f"{self._where}: {ast.unparse(node)} is not a number.")
            case ast.Constant(value=int() | float()):
                return
            case ast.Name(id=name):
                if name not in names:
                    raise SettingsError(f"{self._where}: there is no grader {name!r}.{nearest(name, names)}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self._ensure_known(operand, names)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
                self._ensure_known(left, names)
                self._ensure_known(right, names)
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as arguments, keywords=[]) if name in _FUNCTIONS:
                for argument in arguments:
                    self._ensure_known(argument, names)
            case _:
                raise SettingsError(
                    f"{self._where}: {ast.unparse(node)[:80]!r} is not allowed; there are + - * / ^, brackets and "
                    f"{', '.join(_FUNCTIONS)}."
                )
