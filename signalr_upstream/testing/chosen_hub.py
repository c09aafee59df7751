"""Which hub of which app a test is about."""

from collections.abc import Sequence
from typing import Any

from ..app import UpstreamApp
from ..errors import ConfigurationError
from ..hubs.hub import Hub


def chosen_hub(
    apps: Sequence[UpstreamApp], wanted: str | Hub[Any] | None
) -> tuple[UpstreamApp, Hub[Any], str]:
    """The app, the hub, and its name without the application's prefix.

    Raises:
        ConfigurationError: there is no such hub, or not only one; the text names those there are.
    """
    if not apps:
        raise ConfigurationError(
            "HubTester needs an UpstreamApp, or an app that has mounted one; where it is wrapped in something else, "
            "give the UpstreamApp itself"
        )
    hubs = [(app, hub) for app in apps for hub in app.hubs]
    known = ", ".join(hub.name for _, hub in hubs)
    if wanted is None:
        if len(hubs) > 1 or hubs[0][1].is_family:
            raise ConfigurationError(f"say which hub is tested: HubTester(app, hub=...); there are {known}")
        return *hubs[0], hubs[0][1].name
    for app, hub in hubs:
        if wanted is hub or (isinstance(wanted, str) and hub.serves(wanted)):
            return app, hub, hub.whole_name(wanted if isinstance(wanted, str) else None)
    raise ConfigurationError(f"the app has no hub {wanted!r}; there are {known}")
