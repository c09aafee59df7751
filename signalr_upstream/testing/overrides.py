"""Dependencies that are replaced for the time of a test."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..app import UpstreamApp
from ..errors import ConfigurationError
from ..hubs.depends import Dependency, Need

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]
"""Which dependency is replaced by which."""


@contextlib.contextmanager
def replaced(apps: Sequence[UpstreamApp], overrides: Overrides) -> Iterator[None]:
    """Replace them in all the apps; afterwards all is as it was.

    Raises:
        ConfigurationError: one that nobody depends on, which would be replaced in vain, or by what is no function.
    """
    _check(apps, overrides)
    before = [dict(app.dependency_overrides) for app in apps]
    for app in apps:
        app.dependency_overrides.update(overrides)
    try:
        yield
    finally:
        for app, own in zip(apps, before, strict=True):
            app.dependency_overrides.clear()
            app.dependency_overrides.update(own)


def _check(apps: Sequence[UpstreamApp], overrides: Overrides) -> None:
    hubs = [hub for app in apps for hub in app.hubs]
    known = {
        function: None
        for hub in hubs
        for needs in [
            *(handler.binding.needs for handler in hub.handlers),
            {} if hub.negotiator is None else hub.negotiator.needs,
        ]
        for function in _functions(needs)
    }
    for function, instead in overrides.items():
        if function not in known:
            raise ConfigurationError(
                f"overrides: nothing depends on {_shown(function)}, which would be replaced in vain; dependencies are "
                f"{', '.join(map(_shown, known)) or 'none'}"
            )
        if not callable(instead):
            raise ConfigurationError(
                f"overrides: {_shown(function)} is replaced by a function that gives the value: lambda: {instead!r}"
            )


def _functions(needs: Mapping[str, Need]) -> Iterator[Callable[..., Any]]:
    for need in needs.values():
        if isinstance(need, Dependency):
            yield need.function
            yield from _functions(need.needs)


def _shown(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))
