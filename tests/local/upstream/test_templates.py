"""Which call goes to which URL, and what of a template people are shown."""

import pytest

from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import UpstreamTemplate
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.local.upstream.templates import describe, origin

URL = "http://localhost:8080/{hub}/{category}/{event}"
CALL = {"hub": "chat", "category": "messages", "event": "send"}


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [
        ({}, True),
        ({"event": "send"}, True),
        ({"event": "Send"}, False),
        ({"event": "sen"}, False),
        ({"event": "other, send ,third"}, True),
        ({"event": "other,*"}, True),
        ({"event": "se*"}, False),
        ({"event": ""}, False),
        ({"event": None}, False),
        ({"hub": "chat", "category": "messages", "event": "*"}, True),
        ({"hub": "CHAT"}, False),
        ({"category": "connections"}, False),
        ({"hub": None}, False),
        ({"category": None}, False),
    ],
)
def test_a_pattern_is_a_star_or_names_with_commas_in_the_same_case(
    patterns: dict[str, str | None], fits: bool
) -> None:
    # reference/local-service-and-clients 2.1
    assert UpstreamTemplate(URL, **patterns).fits(**CALL) is fits


def test_the_first_template_that_fits_takes_the_call() -> None:
    connections = UpstreamTemplate("http://a/", category="connections")
    send = UpstreamTemplate("http://b/", event="send")
    other = UpstreamTemplate("http://c/")
    rules = Rules([connections, send, other])

    assert rules.find(**CALL) is send
    assert rules.find(hub="chat", category="messages", event="x") is other
    assert rules.find(hub="chat", category="connections", event="connected") is connections
    assert Rules([connections]).find(**CALL) is None
    assert Rules().find(**CALL) is None


def test_a_fixed_url_takes_the_parameters_in_its_query() -> None:
    # vectors/emulator, scenario template_fixed
    template = UpstreamTemplate("http://localhost/api/upstream?code=abc%20d&h={hub}&c={category}&e={event}")

    url = template.expand(hub="fixed", category="messages", event="odd name")

    assert url == "http://localhost/api/upstream?code=abc%20d&h=fixed&c=messages&e=odd%20name"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://[/{event}", "no http or https URL"),
        ("/api/{event}", "no http or https URL"),
        ("ftp://localhost/{event}", "no http or https URL"),
        ("http:///x", "no http or https URL"),
        ("", "no http or https URL"),
        ("not a url/{hub}", "no http or https URL"),
        ("http://host:port/", "no http or https URL"),
        ("http://h/?code={@Microsoft.KeyVault(SecretUri=https://x)}", "only the real service can look up"),
        ("[parameters('upstreamUrl')]", "only Azure evaluates"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused_at_once(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Rules(url)


def test_people_see_no_secret_of_a_url() -> None:
    template = UpstreamTemplate(
        "https://me:s3cret@app.example/api/{hub}?code=s3cret&e={event}&empty", event="a,b", hub=None
    )

    shown = "https://app.example/api/{hub}?code=...&e={event}&empty=...(event:'a,b',hub:'None',category:'*')"
    assert template.shown == shown
    assert "s3cret" not in repr(template)
    assert origin(template.url) == "https://app.example"


def test_templates_are_listed_as_the_emulator_does() -> None:
    # reference/local-service-and-clients 1.1
    assert describe([UpstreamTemplate(URL), UpstreamTemplate("http://x", event="e")]) == [
        f"[0]{URL}(event:'*',hub:'*',category:'*')",
        "[1]http://x(event:'e',hub:'*',category:'*')",
    ]
