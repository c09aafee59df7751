"""What users import, and nothing else."""

import signalr_upstream


def test_the_package_exports_exactly_this() -> None:
    assert signalr_upstream.__all__ == [
        "ClientAccess",
        "Context",
        "Depends",
        "Forbidden",
        "Hub",
        "HubError",
        "Identity",
        "ServiceClient",
        "SignalRError",
        "UpstreamApp",
        "on",
        "role",
        "verify_signature",
    ]
    assert all(hasattr(signalr_upstream, name) for name in signalr_upstream.__all__)


def test_everything_exported_has_a_docstring() -> None:
    assert all(getattr(signalr_upstream, name).__doc__ for name in signalr_upstream.__all__)
