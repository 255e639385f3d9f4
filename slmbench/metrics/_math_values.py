"""What a formula is worth: a LaTeX expression read by a small grammar, and its value, exact as far as it is a fraction.

Formulas come from models: nothing is run, and length, depth and the size of numbers are bounded.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

Value: TypeAlias = Fraction | complex
Node: TypeAlias = Callable[[Mapping[str, float]], Value]
"""A formula's value where its variables have these."""

MOST_CHARS = 400
_MOST_DEPTH = 40
_MOST_BITS = 4000
_MOST_FACTORIAL = 170
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)")
_LETTER = re.compile(r"[a-zA-Z]")
_SUBSCRIPT = re.compile(r"_(?:\{([^{}]*)\}|(\w))")
_SPACE = re.compile(r"\s+")
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell".split()
)
_FUNCTIONS: Mapping[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "cot": lambda x: 1 / cmath.tan(x),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "exp": cmath.exp,
    "ln": cmath.log,
}
_CONSTANTS: Mapping[str, Value] = {"pi": complex(math.pi), "i": 1j, "e": complex(math.e)}


class NoFormula(ValueError):
    """A text isn't a formula of this grammar, or has no value."""


def formula_of(text: str) -> tuple[Node, frozenset[str]]:
    """(the formula, its variables). Raises NoFormula."""
    if len(text) > MOST_CHARS:
        raise NoFormula("too long")
    reader = _Reader(text)
    try:
        node = reader.sum()
    except RecursionError as error:
        raise NoFormula("too deep") from error
    reader.skip()
    if reader.at < len(text):
        raise NoFormula(f"what is {text[reader.at :][:20]!r}?")
    return node, frozenset(reader.variables)


def value_of(node: Node, variables: Mapping[str, float]) -> Value:
    """Raises NoFormula where it has none, as 1/0."""
    try:
        value = node(variables)
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise NoFormula(str(error)) from error
    if isinstance(value, complex) and not cmath.isfinite(value):
        raise NoFormula("is not finite")
    return value


def same_value(a: Value, b: Value) -> bool:
    """Whether two values are the same: fractions exactly, others to nine digits."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    try:
        a, b = complex(a), complex(b)
    except OverflowError:
        return False
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b), 1e-3)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.variables: set[str] = set()

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        """The next sign, or the whole command."""
        self.skip()
        if self.at >= len(self.text):
            return ""
        found = _COMMAND.match(self.text, self.at)
        return found[0] if found else self.text[self.at]

    def take(self, *wanted: str) -> bool:
        next_one = self.peek()
        if next_one not in wanted or not next_one:
            return False
        self.at += len(next_one)
        return True

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise NoFormula(f"{sign!r} is missing")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise NoFormula("too deep")
        node = self.product()
        while True:
            if self.take("+"):
                node = _both(_add, node, self.product())
            elif self.take("-", "\u2212"):
                node = _both(_subtract, node, self.product())
            else:
                break
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            if self.take("*", "\\cdot", "\\times", "\u00d7", "\u00b7"):
                node = _both(_multiply, node, self.signed())
            elif self.take("/", "\\div", "\u00f7"):
                node = _both(_divide, node, self.signed())
            elif self.begins_factor():
                node = _both(_multiply, node, self.power())
            else:
                return node

    def begins_factor(self) -> bool:
        sign = self.peek()
        if not sign or sign in "+-*/)]},|=<>!^_&":
            return False
        return sign[0] != "\\" or sign[1:] in _KNOWN

    def signed(self) -> Node:
        negative = False
        while (minus := self.take("-", "\u2212")) or self.take("+"):
            negative ^= minus
        inner = self.power()
        return (lambda env: -inner(env)) if negative else inner

    def power(self) -> Node:
        base = self.atom()
        while self.take("!"):
            base = _one(_factorial, base)
        if self.take("^"):
            base = _both(_power, base, self.argument())
        return base

    def argument(self) -> Node:
        """What follows \\frac, \\sqrt or ^: a group, or one sign."""
        self.skip()
        if self.take("{"):
            node = self.sum()
            self.need("}")
            return node
        if self.at < len(self.text) and self.text[self.at].isdigit():
            digit = Fraction(int(self.text[self.at]))
            self.at += 1
            return lambda env: digit
        return self.atom()

    def atom(self) -> Node:
        self.skip()
        if found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            return self.number(found[0])
        sign = self.peek()
        closing = {"(": ")", "[": "]", "{": "}"}.get(sign)
        if closing is not None:
            self.at += 1
            node = self.sum()
            self.need(closing)
            return node
        if sign == "|":
            self.at += 1
            node = self.sum()
            self.need("|")
            return _one(lambda x: abs(x) if isinstance(x, Fraction) else complex(abs(x)), node)
        if _LETTER.fullmatch(sign):
            self.at += 1
            return self.named(sign)
        if sign.startswith("\\"):
            self.at += len(sign)
            return self.command(sign[1:])
        raise NoFormula(f"what is {sign!r}?")

    def number(self, digits: str) -> Node:
        if len(digits) > 300:
            raise NoFormula("too many digits")
        value = Fraction(digits)
        self.skip()
        # 1\frac{4}{5} is a mixed number; 3\frac{x}{2} is a product.
        mixed = re.compile(r"\\frac\s*(?:\{\s*(\d{1,9})\s*\}|(\d))\s*(?:\{\s*(\d{1,9})\s*\}|(\d))").match(
            self.text, self.at
        )
        if mixed and digits.isdigit():
            over, under = int(mixed[1] or mixed[2]), int(mixed[3] or mixed[4])
            if 0 < over < under:
                self.at = mixed.end()
                value += Fraction(over, under)
        return lambda env: value

    def named(self, name: str) -> Node:
        if found := _SUBSCRIPT.match(self.text, self.at):
            self.at = found.end()
            name += "_" + (found[1] or found[2] or "")
        elif name in _CONSTANTS:
            constant = _CONSTANTS[name]
            return lambda env: constant
        self.variables.add(name)
        return lambda env: complex(env[name])

    def command(self, name: str) -> Node:
        if name in ("frac", "binom"):
            a, b = self.argument(), self.argument()
            return _both(_divide if name == "frac" else _choose, a, b)
        if name == "sqrt":
            if self.take("["):
                index = self.sum()
                self.need("]")
                return _both(_root, self.argument(), index)
            return _one(_square_root, self.argument())
        if name == "log":
            base = self.argument() if self.take("_") else None
            inner = self.of_function()
            log = _one(lambda x: cmath.log(complex(x)), inner)
            return log if base is None else _both(_divide, log, _one(lambda x: cmath.log(complex(x)), base))
        if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
            exponent = self.argument() if self.take("^") else None
            node = _one(lambda x: function(complex(x)), self.of_function())
            return node if exponent is None else _both(_power, node, exponent)
        if name == "pi":
            return lambda env: _CONSTANTS["pi"]
        if name in _GREEK:
            return self.named(name)
        raise NoFormula(f"what is \\{name}?")

    def of_function(self) -> Node:
        """A function's argument: a group, or the factors up to the next sign or function."""
        if self.peek() in ("(", "{", "["):
            return self.power()
        node = self.power()
        while self.begins_factor() and self.peek()[1:] not in _FUNCTIONS and self.peek() != "(":
            node = _both(_multiply, node, self.power())
        return node


_KNOWN = frozenset((*_FUNCTIONS, *_GREEK, "frac", "binom", "sqrt", "log", "pi"))


def _one(function: Callable[[Value], Value], node: Node) -> Node:
    return lambda env: function(node(env))


def _both(function: Callable[[Value, Value], Value], a: Node, b: Node) -> Node:
    return lambda env: function(a(env), b(env))


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise NoFormula("too large")
    return value


def _pair(a: Value, b: Value) -> tuple[Fraction, Fraction] | None:
    return (a, b) if isinstance(a, Fraction) and isinstance(b, Fraction) else None


def _add(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    return _bounded(pair[0] + pair[1]) if pair else complex(a) + complex(b)


def _subtract(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    return _bounded(pair[0] - pair[1]) if pair else complex(a) - complex(b)


def _multiply(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    return _bounded(pair[0] * pair[1]) if pair else complex(a) * complex(b)


def _divide(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    return _bounded(pair[0] / pair[1]) if pair else complex(a) / complex(b)


def _power(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    if pair and pair[1].denominator == 1:
        base, exponent = pair[0], int(pair[1])
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > _MOST_BITS:
            raise NoFormula("too large")
        return base**exponent
    return complex(a) ** complex(b)


def _square_root(a: Value) -> Value:
    if isinstance(a, Fraction) and a >= 0:
        over, under = math.isqrt(a.numerator), math.isqrt(a.denominator)
        if over * over == a.numerator and under * under == a.denominator:
            return Fraction(over, under)
    return cmath.sqrt(complex(a))


def _root(a: Value, index: Value) -> Value:
    whole = isinstance(index, Fraction) and index.denominator == 1 and index > 0
    if isinstance(a, Fraction) and a < 0 and whole and int(index.real) % 2:
        return -complex(float(-a) ** (1 / float(index.real)))
    return complex(a) ** (1 / complex(index))


def _factorial(a: Value) -> Value:
    if not isinstance(a, Fraction) or a.denominator != 1 or not 0 <= a <= _MOST_FACTORIAL:
        raise NoFormula("no factorial")
    return Fraction(math.factorial(int(a)))


def _choose(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    if pair is None or any(one.denominator != 1 or not 0 <= one <= _MOST_BITS for one in pair):
        raise NoFormula("no binomial coefficient")
    return _bounded(Fraction(math.comb(int(pair[0]), int(pair[1]))))
