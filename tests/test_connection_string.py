import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.connection_string import (
    EMULATOR_KEY,
    Endpoint,
    counts_as_none,
    is_loopback,
    load_endpoints,
    parse_connection_string,
    unusable_keys_reason,
)
from signalr_upstream.credentials import NamedCredential
from signalr_upstream.errors import ConnectionStringError

KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
SECOND_KEY = "ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210zyxwvuts"


def connection(url: str, key: str = KEY) -> str:
    return f"Endpoint={url};AccessKey={key};Version=1.0;"


# Microsoft's own table: azure-signalr, ServiceEndpointFacts and ConnectionStringParserFacts.
@pytest.mark.parametrize(
    ("text", "url", "audience"),
    [
        ("endpoint=http://aaa", "http://aaa", "http://aaa"),
        ("endpoint=http://aaa:80", "http://aaa", "http://aaa"),
        ("endpoint=http://aaa/", "http://aaa", "http://aaa"),
        ("endpoint=http://aaa:500", "http://aaa:500", "http://aaa"),
        ("endpoint=https://aaa", "https://aaa", "https://aaa"),
        ("endpoint=https://aaa:443", "https://aaa", "https://aaa"),
        ("endpoint=https://aaa:80", "https://aaa:80", "https://aaa"),
        ("endpoint=https://aaa:500", "https://aaa:500", "https://aaa"),
        ("ENDPOINT=HTTP://AAA", "http://aaa", "http://aaa"),
        ("endpoint=https://aaa;port=500", "https://aaa:500", "https://aaa"),
        ("endpoint=https://aaa:500;port=443", "https://aaa", "https://aaa"),
        ("endpoint=http://localhost/foo", "http://localhost", "http://localhost"),
        ("endpoint=http://[::1]:8888", "http://[::1]:8888", "http://[::1]"),
        ("endpoint=http://[::1]", "http://[::1]", "http://[::1]"),
    ],
)
def test_endpoint_and_audience_are_what_microsoft_makes_of_them(text: str, url: str, audience: str) -> None:
    endpoint = parse_connection_string(f"{text};ACCESSKEY={KEY}")

    assert (endpoint.url, endpoint.audience) == (url, audience)
    assert (endpoint.client_url, endpoint.server_url, endpoint.keys) == (url, url, (KEY,))


COPY_IT = "Copy the whole of it from Keys in the portal: Endpoint=https://...;AccessKey=...;Version=1.0;"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"AccessKey={KEY}", f"Connection string missing required properties endpoint. {COPY_IT}"),
        ("Endpoint=xxx", f"Connection string missing required properties endpoint. {COPY_IT}"),
        ("XXX=yyy;A=b", f"Connection string missing required properties endpoint. {COPY_IT}"),
        ("XXX", f"Connection string missing required properties endpoint. {COPY_IT}"),
        ("", f"Connection string missing required properties endpoint. {COPY_IT}"),
        (
            f'"Endpoint=https://aaa;AccessKey={KEY}"',
            "Connection string missing required properties endpoint. Leave out the quotation marks around it.",
        ),
        (
            "${SIGNALR}",
            "Connection string missing required properties endpoint. It is an unexpanded placeholder.",
        ),
        (
            "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s;x)",
            "Connection string missing required properties endpoint. It is an unexpanded placeholder.",
        ),
        (
            "Endpoint=https://aaa;Version=1.0",
            "accesskey is required. (Or AuthType=azure, or credential=, for an Entra identity.)",
        ),
        (
            "Endpoint=https://aaa;endpoint=https://bbb",
            "Duplicate properties found in connection string: endpoint.",
        ),
        ("Endpoint=https://aaa;AccessKey=a;x=1;x=1", "Duplicate properties found in connection string."),
        *(
            (
                f"Endpoint=https://aaa;AccessKey={KEY};Version={version}",
                f"Version {version} is not supported.",
            )
            for version in ("abc", "1.x", "2.0", "")
            if version
        ),
        (f"Endpoint=https://aaa;AccessKey={KEY};Version=", "Version is not supported."),
        *(
            (
                f"Endpoint=https://aaa;AccessKey={KEY};Port={port}",
                "Invalid value for port property, it must be an positive integer between (0, 65536)",
            )
            for port in ("0", "-1", "2.3", "65536", "1000000", "abc", "٣", "")
        ),
    ],
)
def test_a_string_that_cannot_be_used_is_refused_with_microsofts_text(text: str, message: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        parse_connection_string(text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "value",
    [
        "aaa",
        "endpoint=aaa",
        "localhost:5050",
        "ftp://aaa",
        "ws://aaa",
        "https://",
        "https:///path",
        "https://:80",
        "https://aaa:0",
        "https://aaa:65536",
        "https://aaa:x",
        "https://user:pw@aaa",
        "https://aaa/?x=1",
        "https://aaa/#f",
        "https://aaa\\@bbb",
        "https://a a",
        "https://a\nb",
        "https://\u212a",  # the Kelvin sign is a k when case is ignored
        "https://[::1",
        "https://[::g]",
        "https://[1.2.3.4]",
        "https://[::1]x",
    ],
)
@pytest.mark.parametrize("name", ["endpoint", "clientEndpoint", "serverEndpoint"])
def test_a_url_that_is_not_plain_http_is_refused(name: str, value: str) -> None:
    others = "" if name == "endpoint" else "Endpoint=https://aaa;"

    with pytest.raises(ConnectionStringError) as caught:
        parse_connection_string(f"{others}{name}={value};AccessKey={KEY}")

    assert str(caught.value) == f"Invalid value for {name} property, it must be a valid URI."


# The rows of Microsoft's parser: rest-and-management.md, 4.3 and 6.5.
@pytest.mark.parametrize(
    ("properties", "credential"),
    [
        ("AuthType=azure", NamedCredential("default")),
        ("AuthType=azure;ClientId=c", NamedCredential("default", "c")),
        ("AuthType=Azure.MSI", NamedCredential("managed")),
        ("AuthType=azure.msi;clientId=c", NamedCredential("managed", "c")),
        ("authtype=azure.app;clientId=c;tenantId=t;clientSecret=s", NamedCredential("secret", "c", "t", "s")),
        ("authtype=aad;clientId=c;tenantId=t;clientSecret=s", NamedCredential("secret", "c", "t", "s")),
        (
            "authtype=azure.app;clientId=c;tenantId=t;clientCert=p",
            NamedCredential("certificate", "c", "t", "p"),
        ),
        (
            "authtype=azure.app;clientId=c;tenantId=t;clientCertPath=p",
            NamedCredential("certificate", "c", "t", "p"),
        ),
        ("AuthType=aad", NamedCredential("managed")),
        ("AuthType=aad;clientId=c", NamedCredential("managed", "c")),
        ("AuthType=aad;tenantId=t", NamedCredential("managed")),
    ],
)
def test_an_auth_type_asks_for_a_credential_and_for_no_key(properties: str, credential: object) -> None:
    endpoint = parse_connection_string(f"Endpoint=https://aaa;{properties};AccessKey={KEY}")

    assert endpoint.credential == credential
    assert endpoint.keys == ()
    assert endpoint.key_problem == ""


@pytest.mark.parametrize(
    ("properties", "missing"),
    [
        ("AuthType=azure.app", "clientId"),
        ("AuthType=azure.app;clientId=c", "tenantId"),
        ("AuthType=azure.app;clientId=c;tenantId=t", "clientSecret or clientCert"),
        ("AuthType=aad;clientId=c;tenantId=t", "clientSecret or clientCert"),
    ],
)
def test_an_auth_type_without_what_it_needs_is_refused_with_microsofts_text(
    properties: str, missing: str
) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        parse_connection_string(f"Endpoint=https://aaa;{properties}")

    assert str(caught.value) == f"Connection string missing required properties {missing}."


def test_a_given_credential_is_for_endpoints_without_a_key() -> None:
    given = NamedCredential("default")

    assert parse_connection_string("Endpoint=https://aaa;Version=1.0", credential=given).credential is given
    assert parse_connection_string("Endpoint=https://aaa;AccessKey=", credential=given).credential is given
    assert (
        parse_connection_string(f"Endpoint=https://aaa;AccessKey={KEY}", credential=given).credential is None
    )


def test_any_other_auth_type_means_the_access_key() -> None:
    assert parse_connection_string(f"Endpoint=https://aaa;AuthType=key;AccessKey={KEY}").keys == (KEY,)


def test_client_and_server_endpoint_keep_their_path_and_ignore_port() -> None:
    endpoint = parse_connection_string(
        f"Endpoint=https://aaa;Port=400;ClientEndpoint=http://BBB/a/B/;ServerEndpoint=https://ccc:500;AccessKey={KEY}"
    )

    assert endpoint.url == "https://aaa:400"
    assert endpoint.client_url == "http://bbb/a/B"
    assert endpoint.server_url == "https://ccc:500"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("short", "is shorter than 32 bytes"),
        ("k" * 31, "is shorter than 32 bytes"),
        (" " * 40 + "short", "is shorter than 32 bytes"),
        ("${AZURE_SIGNALR_ACCESS_KEY_OF_PRODUCTION}", "is an unexpanded placeholder"),
        ("$(AZURE_SIGNALR_ACCESS_KEY_OF_PRODUCTION)", "is an unexpanded placeholder"),
        ("{{ azure_signalr_access_key_of_production }}", "is an unexpanded placeholder"),
        ("#{AZURE_SIGNALR_ACCESS_KEY_OF_PRODUCTION}#", "is an unexpanded placeholder"),
        ("%AZURE_SIGNALR_ACCESS_KEY_OF_PRODUCTION%", "is an unexpanded placeholder"),
        ("<the access key of your SignalR service>", "is an unexpanded placeholder"),
        ("@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/s)", "is an unexpanded placeholder"),
        ("k" * 40 + "\udc80", "is not valid text"),
    ],
)
def test_a_key_that_anybody_can_guess_counts_as_none(key: str, problem: str) -> None:
    assert counts_as_none(key)

    endpoint = parse_connection_string(connection("https://aaa", key))

    assert endpoint.keys == ()
    assert unusable_keys_reason([endpoint]) == (
        f"There is no usable access key: the AccessKey of https://aaa {problem}."
    )


@pytest.mark.parametrize("key", [KEY, EMULATOR_KEY, "k" * 32, "é" * 16, "abc/+" * 8 + "=="])
def test_a_real_key_counts(key: str) -> None:
    assert not counts_as_none(key)
    assert parse_connection_string(connection("http://localhost", key)).keys == (key,)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.255.0.9", "[::1]", "::1"]
)
def test_loopback_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "aaa", "localhost.example.com", "notlocalhost", "128.0.0.1", "0.0.0.0", "::", "[::ffff:127.0.0.1]"],
)
def test_names_that_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_emulators_key_works_for_loopback_only() -> None:
    inside = parse_connection_string(connection("http://localhost:8888", EMULATOR_KEY))
    outside = parse_connection_string(connection("https://aaa.service.signalr.net", EMULATOR_KEY))

    assert inside.keys == (EMULATOR_KEY,)
    assert outside.keys == ()
    assert "well-known key" in unusable_keys_reason([outside])


def test_settings_with_one_url_are_one_endpoint_whose_first_key_signs() -> None:
    endpoints = load_endpoints(
        [
            connection("https://aaa"),
            connection("https://bbb"),
            "  ",
            connection("HTTPS://AAA:443/", SECOND_KEY),
            connection("https://aaa"),
        ],
        environ={},
    )

    assert [(e.url, e.keys) for e in endpoints] == [
        ("https://aaa", (KEY, SECOND_KEY)),
        ("https://bbb", (KEY,)),
    ]


def test_an_empty_first_key_does_not_hide_the_second() -> None:
    (endpoint,) = load_endpoints([connection("https://aaa", ""), connection("https://aaa")], environ={})

    assert endpoint.keys == (KEY,)
    assert endpoint.key_problem == "is empty"


def test_a_given_setting_wins_over_the_environment() -> None:
    environ = {"AzureSignalRConnectionString": connection("https://environment")}

    assert [e.url for e in load_endpoints(connection("https://given"), environ=environ)] == ["https://given"]
    assert load_endpoints("", environ=environ) == ()
    assert load_endpoints([], environ=environ) == ()


@pytest.mark.parametrize(
    "variable",
    [
        "AzureSignalRConnectionString",
        "AZURESIGNALRCONNECTIONSTRING",
        "Azure__SignalR__ConnectionString",
        "Azure:SignalR:ConnectionString",
        "ConnectionStrings__AzureSignalRConnectionString",
        "ConnectionStrings__Azure__SignalR__ConnectionString",
        "CUSTOMCONNSTR_AzureSignalRConnectionString",
        "AzureSignalRSecondaryConnectionString",
        "Azure__SignalR__Endpoints__eastus",
    ],
)
def test_the_names_that_users_already_have_are_read(variable: str) -> None:
    assert [e.url for e in load_endpoints(environ={variable: connection("https://aaa")})] == ["https://aaa"]


def test_a_name_of_ones_own_reads_nothing_else() -> None:
    environ = {
        "AzureSignalRConnectionString": connection("https://aaa"),
        "AzureSignalRSecondaryConnectionString": connection("https://aaa"),
        "Azure__SignalR__ConnectionString": connection("https://aaa"),
        "Azure__SignalR__Endpoints__x": connection("https://aaa"),
    }

    assert load_endpoints(environ=environ, name="Other") == ()
    environ["ConnectionStrings__Other"] = connection("https://other")
    assert [e.url for e in load_endpoints(environ=environ, name="Other")] == ["https://other"]


def test_the_secondary_connection_string_adds_a_key() -> None:
    (endpoint,) = load_endpoints(
        environ={
            "AzureSignalRSecondaryConnectionString": connection("https://aaa", SECOND_KEY),
            "AzureSignalRConnectionString": connection("https://aaa"),
        }
    )

    assert endpoint.keys == (KEY, SECOND_KEY)


def test_named_endpoints_have_names_and_primaries_come_first() -> None:
    prefix = "Azure__SignalR__Endpoints__"
    endpoints = load_endpoints(
        environ={
            f"{prefix}west__Secondary": connection("https://w"),
            f"{prefix}North": connection("https://n"),
            f"{prefix}east__primary": connection("https://e"),
            "AZURE:SIGNALR:ENDPOINTS:a:b": connection("https://ab"),
            f"{prefix}secondary": connection("https://unnamed"),
            f"{prefix}blank": " ",
            f"{prefix}east__type": "ignored",
        }
    )

    assert [(e.name, e.primary) for e in endpoints] == [
        ("North", True),
        ("a:b", True),
        ("east", True),
        ("", False),
        ("west", False),
    ]


@pytest.mark.parametrize("prefix", ["AzureSignalRConnectionString", "Azure__SignalR__Endpoints__east"])
@pytest.mark.parametrize(
    ("settings", "credential"),
    [
        ({}, NamedCredential("default")),
        ({"credential": "managedidentity"}, NamedCredential("managed")),
        ({"credential": "managedidentity", "clientId": "c"}, NamedCredential("managed", "c")),
        (
            {"clientId": "c", "tenantId": "t", "clientSecret": "s"},
            NamedCredential("secret", "c", "t", "s"),
        ),
    ],
)
def test_an_identity_in_the_environment_is_an_endpoint_with_a_credential(
    prefix: str, settings: dict[str, str], credential: object
) -> None:
    settings = {"serviceUri": "https://AAA/", "clientEndpoint": "https://edge/x/"} | settings

    (endpoint,) = load_endpoints(environ={f"{prefix}__{name}": value for name, value in settings.items()})

    assert (endpoint.url, endpoint.client_url, endpoint.server_url) == (
        "https://aaa",
        "https://edge/x",
        "https://aaa",
    )
    assert endpoint.credential == credential
    assert endpoint.name == ("" if prefix == "AzureSignalRConnectionString" else "east")


def test_nothing_configured_says_what_to_set() -> None:
    assert load_endpoints(environ={"PATH": "/bin", "AzureSignalRConnectionString": ""}) == ()
    assert "set AzureSignalRConnectionString" in unusable_keys_reason(())


def test_an_endpoint_without_keys_says_so() -> None:
    endpoint = Endpoint("https://aaa", (), "https://aaa", "https://aaa")

    assert "the AccessKey of https://aaa is missing" in unusable_keys_reason([endpoint])


def test_no_text_about_an_endpoint_shows_a_key() -> None:
    endpoint = parse_connection_string(connection("https://aaa"))

    for text in (
        repr(endpoint),
        str(endpoint),
        f"{endpoint}",
        repr((endpoint,)),
        repr(endpoint.__rich_repr__()),
    ):
        assert "https://aaa" in text
        assert KEY not in text


@pytest.mark.parametrize(
    "text",
    [
        f"Endpoint=https://aaa;AccessKey={KEY};Version=1.0AccessKey={KEY}",
        f"Endpoint=https://aaa;Version=1 AccessKey={KEY}",
        f"Endpoint=https://aaaAccessKey={KEY};Version=1.0",
        f"Endpoint=https://aaa;AccessKey={KEY};{KEY}=1;{KEY}=2",
        f"Endpoint=https://aaa;AccessKey={KEY};ClientEndpoint={KEY}",
        f"Endpoint=https://aaa;AccessKey={KEY};Port={KEY}",
    ],
)
def test_no_error_shows_a_key_that_stands_in_the_wrong_place(text: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        parse_connection_string(text)

    assert KEY.lower() not in str(caught.value).lower()


_PIECES = st.sampled_from(
    [
        "Endpoint",
        "AccessKey",
        "Port",
        "Version",
        "=",
        ";",
        "https://",
        "aaa",
        "[",
        "]",
        ":",
        "@",
        KEY,
        "1.0",
        "${x}",
    ]
)


@settings(max_examples=300)
@given(st.lists(_PIECES | st.text(max_size=3), max_size=16).map("".join))
def test_any_text_gives_an_endpoint_or_a_connection_string_error(text: str) -> None:
    try:
        endpoint = parse_connection_string(text)
    except ConnectionStringError as error:
        assert KEY.lower() not in str(error).lower()  # noqa: PT017 - not raising is fine as well
    else:
        assert not any(counts_as_none(key) for key in endpoint.keys)
        assert parse_connection_string(connection(endpoint.url)).url == endpoint.url
