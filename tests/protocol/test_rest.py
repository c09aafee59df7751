"""The table of REST operations: rows from Microsoft's swagger (api-version 2024-12-01), URLs from its SDK's tests."""

import re
import string
import tracemalloc
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.errors import InvalidNameError
from signalr_upstream.protocol import rest
from signalr_upstream.protocol.rest import (
    Match,
    WrongMethod,
    check_name,
    match,
)
from signalr_upstream.protocol.rest_paths import MAX_RESOURCES, HubPaths

# Azure/azure-signalr docs/swagger/v20241201.json: operation, method, path, success.
SWAGGER = """
health HEAD /api/health 200
access_key GET /api/auth/accessKey 200
send_to_all POST /api/hubs/{hub}/:send 202
close_all POST /api/hubs/{hub}/:closeConnections 204
generate_token POST /api/hubs/{hub}/:generateToken 200
execute POST /api/hubs/{hub}/:execute 202
send_to_connection POST /api/hubs/{hub}/connections/{connection}/:send 202
invoke_connection POST /api/hubs/{hub}/connections/{connection}/:invoke 200
connection_exists HEAD /api/hubs/{hub}/connections/{connection} 200
close_connection DELETE /api/hubs/{hub}/connections/{connection} 200
remove_connection_from_all_groups DELETE /api/hubs/{hub}/connections/{connection}/groups 200
send_stream_item POST /api/hubs/{hub}/connections/{connection}/streams/{stream}/:send 202
complete_stream POST /api/hubs/{hub}/connections/{connection}/streams/{stream}/:complete 202
send_to_group POST /api/hubs/{hub}/groups/{group}/:send 202
close_group POST /api/hubs/{hub}/groups/{group}/:closeConnections 204
group_exists HEAD /api/hubs/{hub}/groups/{group} 200
group_connections GET /api/hubs/{hub}/groups/{group}/connections 200
add_connection_to_group PUT /api/hubs/{hub}/groups/{group}/connections/{connection} 200
remove_connection_from_group DELETE /api/hubs/{hub}/groups/{group}/connections/{connection} 200
send_to_user POST /api/hubs/{hub}/users/{user}/:send 202
close_user POST /api/hubs/{hub}/users/{user}/:closeConnections 204
user_exists HEAD /api/hubs/{hub}/users/{user} 200
user_in_group HEAD /api/hubs/{hub}/users/{user}/groups/{group} 200
add_user_to_group PUT /api/hubs/{hub}/users/{user}/groups/{group} 200
remove_user_from_group DELETE /api/hubs/{hub}/users/{user}/groups/{group} 204
remove_user_from_all_groups DELETE /api/hubs/{hub}/users/{user}/groups 204
"""
NAMES = {"hub": "hub", "group": "groupA", "user": "userA", "connection": "connectionA", "stream": "s1"}


def values_of(operation: rest.Operation) -> dict[str, str]:
    return {kind: NAMES[kind] for _, kind, *_ in string.Formatter().parse(operation.path) if kind}


def test_the_table_has_every_operation_of_the_swagger_and_no_other() -> None:
    rows = [f"{o.name} {o.method} {o.path} {o.success[0]}" for o in rest.OPERATIONS.values()]

    assert sorted(rows) == sorted(SWAGGER.strip().split("\n"))


def build(
    operation: rest.Operation,
    values: dict[str, str],
    *,
    query: Sequence[tuple[str, str]] = (),
    **options: str,
) -> tuple[str, str]:
    """Path and query, with the variables of the path by name."""
    hub, *names = [values[kind] for kind in re.findall(r"{(\w+)}", operation.path)] or ["unused"]
    resource = HubPaths(hub, **options).resource(operation, tuple(names), query)
    return resource.path, resource.query


@pytest.mark.parametrize("name", rest.OPERATIONS)
def test_what_is_built_is_matched_as_the_same_operation(name: str) -> None:
    operation = rest.OPERATIONS[name]
    values = values_of(operation)

    path, query = build(operation, values)

    assert match(operation.method, path.encode()) == Match(operation, values)
    assert query == "?api-version=2024-12-01"


# Microsoft's RestApiProvider tests, with our api-version.
@pytest.mark.parametrize(
    ("operation", "application", "hub", "names", "url"),
    [
        (rest.SEND_TO_ALL, "app", "hub", {}, "/api/hubs/hub/:send?application=app&api-version=V"),
        (
            rest.SEND_TO_USER,
            "APP",
            "HUB",
            {"user": "USERA"},
            "/api/hubs/hub/users/USERA/:send?application=app&api-version=V",
        ),
        (
            rest.ADD_CONNECTION_TO_GROUP,
            "app",
            "hub",
            {"group": "groupA", "connection": "connectionA"},
            "/api/hubs/hub/groups/groupA/connections/connectionA?application=app&api-version=V",
        ),
        (
            rest.SEND_TO_GROUP,
            "",
            "hub",
            {"group": "group/a"},
            "/api/hubs/hub/groups/group%2Fa/:send?api-version=V",
        ),
    ],
)
def test_urls_equal_those_of_microsofts_tests(
    operation: rest.Operation, application: str, hub: str, names: dict[str, str], url: str
) -> None:
    path, query = build(operation, {"hub": hub, **names}, application=application, api_version="V")

    assert path + query == url


def test_further_parameters_follow_the_version_in_their_order() -> None:
    _, query = build(
        rest.CLOSE_ALL, {"hub": "chat"}, query=[("excluded", "a b"), ("excluded", "c"), ("reason", "é&")]
    )

    assert query == "?api-version=2024-12-01&excluded=a%20b&excluded=c&reason=%C3%A9%26"


def test_operations_without_application_do_not_send_it() -> None:
    assert build(rest.HEALTH, {}, application="app") == ("/api/health", "?api-version=2024-12-01")


# Uri.EscapeDataString, recorded from the .NET SDK.
@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("user/a", "user%2Fa"),
        ("a%2Fb", "a%252Fb"),
        ("a+b", "a%2Bb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a:b;c@d,e", "a%3Ab%3Bc%40d%2Ce"),
        ("'()!*", "%27%28%29%21%2A"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("A.Z_a-z~9", "A.Z_a-z~9"),
        ("...", "..."),
    ],
)
def test_names_are_escaped_once_and_come_back_from_the_raw_path(raw: str, escaped: str) -> None:
    path, _ = build(rest.USER_EXISTS, {"hub": "chat", "user": raw})

    assert path == f"/api/hubs/chat/users/{escaped}"
    assert match("HEAD", path.encode()) == Match(rest.USER_EXISTS, {"hub": "chat", "user": raw})


@given(group=st.text(min_size=1, max_size=40), connection=st.text(min_size=1, max_size=40))
@settings(max_examples=150)
def test_a_name_never_turns_a_request_into_another_one(group: str, connection: str) -> None:
    values = {"hub": "chat", "group": group, "connection": connection}
    try:
        path, _ = build(rest.ADD_CONNECTION_TO_GROUP, values)
    except InvalidNameError:
        assert {group, connection} & {".", ".."} or group.isspace() or "\n" in group
        return

    assert match("PUT", path.encode()) == Match(rest.ADD_CONNECTION_TO_GROUP, values)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=200)
def test_any_raw_path_is_matched_or_not_and_never_fails(path: bytes, below_hubs: bool) -> None:
    raw = b"/api/hubs/" + path if below_hubs else path

    assert match("GET", raw) is None or isinstance(match("GET", raw), Match | WrongMethod)


@pytest.mark.parametrize(
    "path",
    [
        b"/api/hubs",
        b"/api",
        b"/api/",
        b"/",
        b"",
        b"/api/v1",
        b"/api/v2/hubs/chat",
        b"/api/hubs//:send",
        b"/api/hubs/chat/groups//:send",
        b"/api/hubs/chat/:addToGroups",
        b"/api/hubs/chat/permissions",
        b"x/api/hubs/chat",
        b"/api/hubs/ch%FFat/:send",
        b"/api/hubs/ch\xfft/:send",
    ],
)
def test_other_paths_are_no_operation(path: bytes) -> None:
    assert match("POST", path) is None


# Recorded from Microsoft's emulator: rows of rest-exchanges.jsonl that it answers 2xx.
@pytest.mark.parametrize(
    ("method", "path", "operation", "values"),
    [
        ("GET", b"/api/health/", rest.HEALTH, {}),
        ("GET", b"/API/V1/HEALTH", rest.HEALTH, {}),
        ("POST", b"/api/v1/hubs/chat", rest.SEND_TO_ALL, {"hub": "chat"}),
        ("POST", b"/api/v1/hubs/chat/:send", rest.SEND_TO_ALL, {"hub": "chat"}),
        ("POST", b"/api/hubs/CHAT/:send", rest.SEND_TO_ALL, {"hub": "chat"}),
        ("POST", b"/api/hubs/chat/%3Asend", rest.SEND_TO_ALL, {"hub": "chat"}),
        ("POST", b"/api/v1/hubs/chat/groups/g1", rest.SEND_TO_GROUP, {"hub": "chat", "group": "g1"}),
        ("POST", b"/api/hubs/chat/groups/:send/:send", rest.SEND_TO_GROUP, {"hub": "chat", "group": ":send"}),
        (
            "GET",
            b"/api/v1/hubs/chat/connections/c",
            rest.CONNECTION_EXISTS,
            {"hub": "chat", "connection": "c"},
        ),
        (
            "PUT",
            b"/api/hubs/chat/groups/ug/users/u2",
            rest.ADD_USER_TO_GROUP,
            {"hub": "chat", "group": "ug", "user": "u2"},
        ),
        (
            "DELETE",
            b"/api/hubs/chat/connections/c/groups/g1",
            rest.REMOVE_CONNECTION_FROM_GROUP,
            {"hub": "chat", "group": "g1", "connection": "c"},
        ),
    ],
)
def test_older_paths_and_both_orders_of_names_are_matched(
    method: str, path: bytes, operation: rest.Operation, values: dict[str, str]
) -> None:
    assert match(method, path) == Match(operation, values, path.lower().startswith(b"/api/v1"))


def test_a_known_path_with_another_method_says_which_are_allowed() -> None:
    # As recorded from the emulator: 405 with "Allow: GET, HEAD".
    assert match("DELETE", b"/api/health") == WrongMethod(("GET", "HEAD"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hub", ""),
        ("hub", "1chat"),
        ("hub", "my-hub"),
        ("hub", "hüb"),
        ("hub", "chat\n"),
        ("hub", "h" * 129),
        ("application", "a b"),
        ("group", ""),
        ("group", "."),
        ("group", ".."),
        ("group", " \t"),
        ("group", "a\nb"),
        ("group", "g" * 1025),
        ("user", ".."),
        ("user", "u" * 1025),
        ("connection", ""),
        ("connection", "."),
        ("stream", " "),
        ("stream", "s" * 101),
    ],
)
def test_names_that_the_service_refuses_are_refused_here(kind: str, name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(kind, name)

    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hub", "H_`,.[]9"),
        ("hub", "h" * 128),
        ("group", "g" * 1024),
        ("user", " "),
        ("connection", "c" * 2000),
    ],
)
def test_names_at_the_limits_pass(kind: str, name: str) -> None:
    check_name(kind, name)


def test_what_is_kept_does_not_grow_with_the_number_of_hubs() -> None:
    tracemalloc.start()
    try:
        hubs = [HubPaths(f"tenant_{number}") for number in range(4)]
        for paths in hubs:
            for number in range(MAX_RESOURCES):
                paths.resource(rest.SEND_TO_CONNECTION, (f"connection{number}",))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000 * MAX_RESOURCES


def test_long_names_are_not_kept_for_clients_may_choose_them() -> None:
    paths = HubPaths("chat")
    tracemalloc.start()
    try:
        for number in range(100):
            paths.resource(rest.SEND_TO_CONNECTION, (f"{number}" + "x" * 100_000,))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 1_000_000


def test_half_a_surrogate_pair_is_no_name() -> None:
    with pytest.raises(InvalidNameError, match="surrogate"):
        build(rest.USER_EXISTS, {"hub": "chat", "user": "\ud800"})


def test_escaping_is_that_of_the_standard_library() -> None:
    every = "".join(map(chr, range(1, 0x250)))

    assert build(rest.CONNECTION_EXISTS, {"hub": "h", "connection": every})[0].endswith(quote(every, safe=""))


# Operations that Microsoft's older descriptions have (docs/swagger/v1.json, V20220601.json, V20230701.json).
OLD = {
    "1.0": {
        "health", "access_key", "send_to_all", "send_to_connection", "connection_exists", "close_connection",
        "send_to_group", "group_exists", "add_connection_to_group", "remove_connection_from_group",
        "send_to_user", "user_exists", "user_in_group", "add_user_to_group", "remove_user_from_group",
        "remove_user_from_all_groups",
    },
    "2022-06-01": {
        "close_all", "close_group", "close_user", "remove_connection_from_all_groups",
    },
    "2022-11-01": {"generate_token"},
    "2023-07-01": {"execute"},
    "2024-12-01": {"invoke_connection", "send_stream_item", "complete_stream", "group_connections"},
}  # fmt: skip


def test_an_operation_knows_the_version_that_brought_it() -> None:
    assert {name: operation.since for name, operation in rest.OPERATIONS.items()} == {
        name: version for version, names in OLD.items() for name in names
    }
