"""The filter of ``:execute``: which connections are meant, as an expression of OData.

    startswith(userId, 'a') and not ('vip' in groups)

The grammar is the one that Microsoft documents for Web PubSub, whose filter this is: ``connectionId``, ``userId`` and
``groups``; ``eq ne gt ge lt le``, ``in``, ``not``, ``and``, ``or``; texts, whole numbers, ``true false null``; and the
functions below. Names are read in any case, values are compared with it. ``not`` binds closest, so that its operand
nearly always stands in parentheses. What is unknown (null) is neither true nor false: a connection without a user
is not found by ``userId gt 'a'``, nor by ``not startswith(userId, 'a')``.

Spec: https://learn.microsoft.com/azure/azure-web-pubsub/reference-odata-filter
"""

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from msgspec import Struct

from ..admission import Refused

MAX_DEPTH = 50
"""Parentheses, functions and ``not`` in each other: each takes some frames of Python's stack."""

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>[+-]?[0-9]+)(?![\w])|(?P<name>[A-Za-z]\w*)|(?P<sign>[(),]))",
    re.ASCII,
)
_MAX_DIGITS = 19  # of a number and its sign: 64 bits and a little


class Subject(Struct, frozen=True):
    """A connection, as a filter sees it."""

    connection_id: str
    user_id: str | None
    groups: Collection[str]


class Kind(Enum):
    """The type of an expression; NULL is that of the literal, which fits every other."""

    BOOL = "true or false"
    TEXT = "a text"
    NUMBER = "a number"
    GROUPS = "groups"
    NULL = "null"


class _Expression(NamedTuple):
    kind: Kind
    value: Callable[[Subject], Any]
    position: int


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class Filter:
    """A filter that has been read once and is asked about many connections.

    Raises:
        Refused: 400, with what was expected and where.
    """

    def __init__(self, text: str) -> None:
        self._matches = _Parser(text).whole()

    def matches(self, subject: Subject) -> bool:
        """Whether the filter is true for a connection; where it is unknown, it is not."""
        return self._matches(subject) is True


# ---- functions ----


def _substring(text: str, start: int, length: int | None = None) -> str:
    start = max(start, 0)
    return text[start:] if length is None else text[start : start + max(length, 0)]


class _Function(NamedTuple):
    parameters: Sequence[Collection[Kind]]
    result: Kind
    call: Callable[..., Any]
    optional: int = 0


_T, _N = (Kind.TEXT,), (Kind.NUMBER,)
_FUNCTIONS: Mapping[str, _Function] = {
    "startswith": _Function((_T, _T), Kind.BOOL, str.startswith),
    "endswith": _Function((_T, _T), Kind.BOOL, str.endswith),
    "contains": _Function((_T, _T), Kind.BOOL, operator.contains),
    "indexof": _Function((_T, _T), Kind.NUMBER, str.find),
    "concat": _Function((_T, _T), Kind.TEXT, operator.add),
    "substring": _Function((_T, _N, _N), Kind.TEXT, _substring, optional=1),
    "tolower": _Function((_T,), Kind.TEXT, str.lower),
    "toupper": _Function((_T,), Kind.TEXT, str.upper),
    "trim": _Function((_T,), Kind.TEXT, str.strip),
    "length": _Function(((Kind.TEXT, Kind.GROUPS),), Kind.NUMBER, len),
}
_NAMES: Mapping[str, tuple[Kind, Callable[[Subject], Any]]] = {
    "connectionid": (Kind.TEXT, lambda subject: subject.connection_id),
    "userid": (Kind.TEXT, lambda subject: subject.user_id),
    "groups": (Kind.GROUPS, lambda subject: subject.groups),
    "true": (Kind.BOOL, lambda _: True),
    "false": (Kind.BOOL, lambda _: False),
    "null": (Kind.NULL, lambda _: None),
}
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_ORDERED = (Kind.TEXT, Kind.NUMBER)


def _fitting(left: _Expression) -> Sequence[Kind]:
    """What the right side may be."""
    return (Kind.TEXT, Kind.NUMBER, Kind.BOOL) if left.kind is Kind.NULL else (left.kind,)


# ---- reading ----


class _Parser:
    """Reads one filter, a method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Callable[[Subject], Any]:
        expression = self._or()
        if self._token.kind != "end":
            raise self._refused(self._token.position, "the end or an operator")
        return self._expect(expression, Kind.BOOL).value

    # --- tokens ----------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                position += len(text[position:]) - len(text[position:].lstrip())
                raise self._refused(position, "a name, a number, a text in single quotes, or a parenthesis")
            assert found.lastgroup is not None  # noqa: S101 - one of the groups has matched
            tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            position = found.end()
        return [*tokens, _Token("end", "", len(text))]

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *words: str) -> str | None:
        """The next word, if it is one of these; then it is used up."""
        word = self._token.text.lower()
        if self._token.kind in ("name", "sign") and word in words:
            self._next += 1
            return word
        return None

    def _need(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._refused(self._token.position, f"{sign!r}")

    def _refused(self, position: int, expected: str) -> Refused:
        there = self._text[position : position + 20]
        near = f"at {there!r}" if there else "at its end"
        return Refused(
            400, f"The filter is not valid {near} (character {position + 1}): expected {expected}."
        )

    def _expect(self, expression: _Expression, *kinds: Kind) -> _Expression:
        if expression.kind not in (*kinds, Kind.NULL):
            wanted = " or ".join(kind.value for kind in kinds)
            raise self._refused(expression.position, f"{wanted}, and this is {expression.kind.value}")
        return expression

    # --- expressions -----------------------------------------------------------------------------------------

    def _or(self) -> _Expression:
        return self._logical("or", self._and, decides=True)

    def _and(self) -> _Expression:
        return self._logical("and", self._comparison, decides=False)

    def _logical(self, word: str, operand: Callable[[], _Expression], *, decides: bool) -> _Expression:
        first = operand()
        values = []
        while self._take(word):
            values.append(self._expect(operand(), Kind.BOOL).value)
        if not values:
            return first
        values.insert(0, self._expect(first, Kind.BOOL).value)

        def value(subject: Subject) -> bool | None:
            found = [each(subject) for each in values]
            if decides in found:
                return decides
            return None if None in found else not decides

        return _Expression(Kind.BOOL, value, first.position)

    def _comparison(self) -> _Expression:
        left = self._unary()
        if self._take("in"):
            return self._in(left)
        word = self._take(*_COMPARISONS)
        if word is None:
            return left
        right = self._unary()
        equality = word in ("eq", "ne")
        self._expect(left, *_ORDERED, *((Kind.BOOL,) if equality else ()))
        self._expect(right, *_fitting(left))
        compare = _COMPARISONS[word]

        def value(subject: Subject) -> bool | None:
            one, other = left.value(subject), right.value(subject)
            return compare(one, other) if equality or None not in (one, other) else None

        return _Expression(Kind.BOOL, value, left.position)

    def _in(self, left: _Expression) -> _Expression:
        self._expect(left, *_ORDERED)
        if self._take("("):
            items = [self._unary()]
            while self._take(","):
                items.append(self._unary())
            self._need(")")
        else:
            items = [self._unary()]
            if items[0].kind is not Kind.GROUPS:
                raise self._refused(items[0].position, "groups, or a list in parentheses")
        if len(items) == 1 and items[0].kind is Kind.GROUPS:
            self._expect(left, Kind.TEXT)
            groups = items[0].value
            return _Expression(
                Kind.BOOL, lambda subject: left.value(subject) in groups(subject), left.position
            )
        values = [self._expect(item, *_fitting(left)).value for item in items]
        return _Expression(
            Kind.BOOL,
            lambda subject: left.value(subject) in [value(subject) for value in values],
            left.position,
        )

    def _unary(self) -> _Expression:
        token = self._token
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._refused(
                token.position, f"at most {MAX_DEPTH} parentheses, functions and not in each other"
            )
        if self._take("not"):
            operand = self._expect(self._unary(), Kind.BOOL)
            expression = _Expression(Kind.BOOL, _negation(operand.value), token.position)
        elif self._take("("):
            expression = self._or()._replace(position=token.position)
            self._need(")")
        else:
            expression = self._operand(token)
        self._depth -= 1
        return expression

    def _operand(self, token: _Token) -> _Expression:
        self._next += 1
        name = token.text.lower()
        if token.kind == "text":
            text = token.text[1:-1].replace("''", "'")
            return _Expression(Kind.TEXT, lambda _: text, token.position)
        if token.kind == "number" and len(token.text) <= _MAX_DIGITS:
            number = int(token.text)
            return _Expression(Kind.NUMBER, lambda _: number, token.position)
        if token.kind == "name" and name in _FUNCTIONS and self._take("("):
            return self._call(_FUNCTIONS[name], token.position)
        if token.kind == "name" and name in _NAMES:
            return _Expression(*_NAMES[name], token.position)
        raise self._refused(
            token.position,
            "connectionId, userId, groups, a text in single quotes, a whole number, true, false, null, not, "
            f"or one of the functions {', '.join(_FUNCTIONS)}",
        )

    def _call(self, function: _Function, position: int) -> _Expression:
        arguments: list[Callable[[Subject], Any]] = []
        for index, kinds in enumerate(function.parameters):
            if index:
                if len(function.parameters) - index <= function.optional and self._token.text == ")":
                    break
                self._need(",")
            arguments.append(self._expect(self._or(), *kinds).value)
        self._need(")")

        def value(subject: Subject) -> Any:
            values = [argument(subject) for argument in arguments]
            return None if None in values else function.call(*values)

        return _Expression(function.result, value, position)


def _negation(operand: Callable[[Subject], Any]) -> Callable[[Subject], bool | None]:
    def value(subject: Subject) -> bool | None:
        found = operand(subject)
        return None if found is None else not found

    return value
