"""A module of an extra says how to install what it needs, in one line wherever a command imports it."""

import importlib
import sys

import pytest

from signalr_upstream.errors import ConfigurationError, MissingExtraError

MODULES = {
    "signalr_upstream.open_telemetry": ("opentelemetry", "opentelemetry-api", "otel"),
    "signalr_upstream.prometheus": ("prometheus_client", "prometheus-client", "prometheus"),
    "signalr_upstream.redis_duplicates": ("redis", "redis", "redis"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_without_its_extra_says_how_to_install_it(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, package, extra = MODULES[module]
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in {missing, *sys.modules}:
        if name.partition(".")[0] == missing:
            monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingExtraError) as raised:
        importlib.import_module(module)

    assert str(raised.value) == (
        f"{module} needs {package}: python -m pip install 'signalr-upstream[{extra}]'"
    )
    # Who imports it where it may be missing catches what Python itself would raise.
    assert isinstance(raised.value, ModuleNotFoundError)
    assert isinstance(raised.value, ConfigurationError)
