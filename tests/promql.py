"""As much of PromQL as the alert rules of the documentation need, over what was scraped of an app.

Spec: https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector

_TOKEN: Final = re.compile(r'\s*(\d+(?:\.\d+)?|[a-z_]+|=~|"[^"]*"|[-+*/<>=(){}\[\],])')
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_OPERATORS: Final[tuple[dict[str, Callable[[float, float], float | None]], ...]] = (
    {">": lambda a, b: a if a > b else None},  # a filter; all else is a number
    {"-": lambda a, b: a - b, "+": lambda a, b: a + b},
    {"*": lambda a, b: a * b, "/": lambda a, b: a / b if b else math.nan},
)
"""By precedence, the weakest first."""


class Scraped:
    """Every sample there was, by series."""

    def __init__(self) -> None:
        self.now = 0.0
        self._series: dict[tuple[str, Labels], list[tuple[float, float]]] = defaultdict(list)

    def add(self, text: str, now: float) -> None:
        """Take what ``/metrics`` has answered at ``now``."""
        self.now = now
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._series[sample.name, frozenset(sample.labels.items())].append((now, sample.value))

    def select(self, name: str, matchers: dict[str, str], seconds: float) -> dict[Labels, list[float]]:
        """The values within the last so many seconds, of the series whose labels match the whole patterns."""
        return {
            labels: values
            for (of, labels), samples in self._series.items()
            if of == name
            and all(re.fullmatch(pattern, dict(labels).get(label, "")) for label, pattern in matchers.items())
            and (values := [value for at, value in samples if self.now - seconds <= at])
        }


class _Expression:
    """A parser by descent that evaluates as it goes."""

    def __init__(self, text: str, scraped: Scraped) -> None:
        self._tokens = _TOKEN.findall(text)
        assert "".join(self._tokens) == re.sub(r"\s", "", text), "a token that is unknown here"
        self._scraped = scraped

    def value(self, level: int = 0) -> Value:
        if level == len(_OPERATORS):
            return self._operand()
        left = self.value(level + 1)
        while self._tokens and self._tokens[0] in _OPERATORS[level]:
            operator = _OPERATORS[level][self._tokens.pop(0)]
            left = _combined(operator, left, self.value(level + 1))
        return left

    def _operand(self) -> Value:
        token = self._tokens.pop(0)
        if token[0].isdigit():
            return float(token)
        if token == "time":
            self._expect("(", ")")
            return self._scraped.now
        if token == "sum":
            return self._sum()
        if token in ("rate", "increase"):
            return self._increase(per_second=token == "rate")
        if token == "histogram_quantile":
            self._expect("(")
            quantile = self.value()
            self._expect(",")
            return _quantile(quantile, self._closed())
        return {labels: values[-1] for labels, values in self._selected(token, 300).items()}

    def _expect(self, *tokens: str) -> None:
        assert self._tokens[: len(tokens)] == [*tokens]
        del self._tokens[: len(tokens)]

    def _closed(self) -> Vector:
        inner = self.value()
        self._expect(")")
        assert isinstance(inner, dict)
        return inner

    def _names(self) -> list[str]:
        self._expect("by", "(")
        end = self._tokens.index(")")
        names = [name for name in self._tokens[:end] if name != ","]
        del self._tokens[: end + 1]
        return names

    def _sum(self) -> Vector:
        names = self._names() if self._tokens[0] == "by" else []
        self._expect("(")
        sums: Vector = defaultdict(float)
        for labels, value in self._closed().items():
            sums[frozenset((name, text) for name, text in labels if name in names)] += value
        return sums

    def _increase(self, *, per_second: bool) -> Vector:
        self._expect("(")
        found = self._selected(self._tokens.pop(0), None)
        self._expect(")")
        # A series that has begun with its first event has not grown by it, as in Prometheus.
        divisor = self._range if per_second else 1
        return {
            labels: (values[-1] - values[0]) / divisor for labels, values in found.items() if len(values) > 1
        }

    def _selected(self, name: str, seconds: float | None) -> dict[Labels, list[float]]:
        matchers = {}
        if self._tokens and self._tokens[0] == "{":
            while self._tokens.pop(0) != "}":
                label, operator, pattern = (self._tokens.pop(0) for _ in range(3))
                matchers[label] = pattern[1:-1] if operator == "=~" else re.escape(pattern[1:-1])
        if seconds is None:
            self._expect("[")
            seconds = float(self._tokens.pop(0)) * _UNITS[self._tokens.pop(0)]
            self._expect("]")
            self._range = seconds
        return self._scraped.select(name, matchers, seconds)


def _combined(operator: Callable[[float, float], float | None], left: Value, right: Value) -> Value:
    """Vectors are paired by equal labels; a number goes with each."""
    if not isinstance(left, dict) and not isinstance(right, dict):
        both = operator(left, right)
        assert both is not None
        return both
    labels = left.keys() if isinstance(left, dict) else set()
    if isinstance(right, dict):
        labels = labels & right.keys() if isinstance(left, dict) else right.keys()
    pairs = {
        one: operator(
            left[one] if isinstance(left, dict) else left, right[one] if isinstance(right, dict) else right
        )
        for one in labels
    }
    return {one: value for one, value in pairs.items() if value is not None}


def _quantile(quantile: Value, buckets: Vector) -> Vector:
    """Interpolated within the bucket that it falls into."""
    assert isinstance(quantile, float)
    groups: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        group = frozenset((name, text) for name, text in labels if name != "le")
        groups[group].append((float(dict(labels)["le"]), count))
    found: Vector = {}
    for group, pairs in groups.items():
        pairs.sort()
        rank = quantile * pairs[-1][1]
        at = next((i for i, (_, count) in enumerate(pairs) if count and count >= rank), None)
        if at is None:
            continue
        low, below = pairs[at - 1] if at else (0.0, 0.0)
        high, count = pairs[at]
        found[group] = low if math.isinf(high) else low + (high - low) * (rank - below) / (count - below)
    return found


def evaluate(expression: str, scraped: Scraped) -> Value:
    """What an expression gives at the time of the last scrape."""
    parser = _Expression(expression, scraped)
    value = parser.value()
    assert not parser._tokens
    return value
