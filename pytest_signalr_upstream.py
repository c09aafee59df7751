"""The pytest plugin of signalr-upstream: the fixture ``hub_tester``.

pytest imports this module wherever the package is installed, so it imports nothing that is not there already, and
changes no test that does not ask for the fixture.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from signalr_upstream.testing import HubTester, StartHubTester


@pytest.fixture
def hub_tester(request: pytest.FixtureRequest) -> "StartHubTester":
    """Test a hub: ``hub = await hub_tester(app)``. Takes what ``signalr_upstream.testing.HubTester`` takes.

    It ends with the test function, which fails if something has gone wrong in a handler. In an annotation its type is
    ``signalr_upstream.testing.StartHubTester``.
    """
    from signalr_upstream.testing import HubTester  # noqa: PLC0415 - see above

    function: pytest.Function = request.node
    test = function.obj
    testers: list[HubTester] = []

    async def start(app: Any, **options: Any) -> HubTester:
        if not inspect.iscoroutinefunction(test):
            raise pytest.UsageError(
                f"hub_tester ends with an async test, and {function.name} is none: "
                "write `async with HubTester(app) as hub:` (from signalr_upstream.testing import HubTester)"
            )
        tester = await HubTester(app, **options).__aenter__()
        testers.append(tester)
        return tester

    if inspect.iscoroutinefunction(test):
        function.obj = _with_end(test, testers)
    return start


def _with_end(
    test: Callable[..., Awaitable[None]], testers: "list[HubTester]"
) -> Callable[..., Awaitable[None]]:
    """The test, and then the end of what it has started. No exit stack: its frames would hide the failure."""

    @functools.wraps(test)
    async def test_and_end(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        error: BaseException | None = None
        try:
            await test(*args, **kwargs)
        except BaseException as raised:
            error = raised
        for tester in reversed(testers):
            try:
                await tester.__aexit__(None if error is None else type(error), error, None)
            except Exception as raised:
                error = raised
        if error is not None:
            raise error

    return test_and_end
