"""A session kept as lines of JSON, and played to an app again."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from signalr_upstream import Context, Hub, HubError, UpstreamApp
from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import ConfigurationError, InvalidMessageError
from signalr_upstream.local import Difference, InProcessClient, LocalService, ManualClock, RestCall, replay
from signalr_upstream.local.records.fixture import document_of, frame_of, lines_of, read_lines, write_lines
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.rest.outgoing import Outgoing
from signalr_upstream.protocol.handshake import PROTOCOLS

pytestmark = pytest.mark.anyio

# What the app of make_app gives, written out, so that a change of the form is seen.
SESSION = """\
{"signalr_upstream":"session","version":1}
{"client":1,"opens":{"hub":"chat","user_id":"ann","claims":{"role":["admin","user"]},"query":{"room":"a&b"},\
"protocol":"json"}}
{"client":1,"upstream":"connections/connected","status":204}
{"client":2,"opens":{"hub":"chat","user_id":null,"claims":{},"query":{},"protocol":"messagepack"}}
{"client":2,"upstream":"connections/connected","status":204}
{"client":2,"sends":{"type":1,"invocationId":"1","target":"tell","arguments":["{client 1}","hello"]}}
{"client":2,"upstream":"messages/tell","arguments":["{client 1}","hello"],"status":200,\
"result":{"to":"{client 1}","n":1}}
{"rest":"POST /api/hubs/chat/connections/{client 1}/:send?api-version=2024-12-01","body":{"target":"told",\
"arguments":["hello"]},"status":202}
{"client":1,"receives":{"type":1,"target":"told","arguments":["hello"]}}
{"client":2,"receives":{"type":3,"invocationId":"1","result":{"to":"{client 1}","n":1}}}
{"client":2,"sends":{"type":1,"invocationId":"2","target":"echo","arguments":{"messagepack":"kcQC/wA="}}}
{"client":2,"upstream":"messages/echo","arguments":{"messagepack":"kcQC/wA="},"status":200,"result":{"messagepack":"xAL/AA=="}}
{"client":2,"receives":{"type":3,"invocationId":"2","result":{"messagepack":"xAL/AA=="}}}
{"client":1,"sends":{"type":1,"target":"echo","arguments":[]}}
{"client":1,"upstream":"messages/echo","arguments":[],"status":204}
{"client":1,"sends":{"type":1,"invocationId":"1","target":"fail","arguments":[]}}
{"client":1,"upstream":"messages/fail","arguments":[],"status":200,"failure":"No."}
{"client":1,"receives":{"type":3,"invocationId":"1","error":"No."}}
{"client":1,"closes":null}
{"client":1,"upstream":"connections/disconnected","status":204}
"""


def make_app(*, number: int = 1, says: str = "told", twice: bool = False) -> UpstreamApp:
    hub = Hub("chat")

    @hub.on("tell")
    async def tell(ctx: Context, connection_id: str, text: str) -> Any:
        for _ in range(1 + twice):
            await ctx.clients.connection(connection_id).send(says, text)
        return {"to": connection_id, "n": number}

    @hub.on("echo")
    async def echo(ctx: Context, *arguments: Any) -> Any:
        return arguments[0] if arguments else None

    @hub.on("fail")
    async def fail(ctx: Context) -> None:
        raise HubError("No.")

    @hub.on("leave")
    async def leave(ctx: Context) -> None:
        await ctx.connections.close(ctx.connection_id)

    return UpstreamApp(hub)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.jsonl"


@pytest.fixture
def session(path: Path) -> Path:
    path.write_text(SESSION)
    return path


def text_of(path: Path) -> str:
    return path.read_text()


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService(make_app(), port=None) as service:
        yield service


async def record(service: LocalService) -> None:
    ann = await service.connect(
        "chat", user_id="ann", claims={"role": ["admin", "user"]}, query={"room": "a&b"}
    )
    bob = await service.connect("chat", protocol="messagepack")
    await bob.invoke("tell", ann.connection_id, "hello")
    await bob.invoke("echo", b"\xff\x00")
    await ann.send("echo")
    await service.settled()
    with pytest.raises(HubError):
        await ann.invoke("fail")
    await ann.close()


async def test_a_session_is_written_line_by_line(service: LocalService, path: Path) -> None:
    await record(service)

    service.export(path)

    assert text_of(path) == SESSION


async def test_no_secret_is_in_it(service: LocalService, path: Path) -> None:
    client = await service.connect("chat", user_id="ann", query={"access_token": "t0ken", "code": "c0de"})
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    await client.send_raw(
        b'{"type":1,"target":"echo","arguments":["%b"],"headers":{"Authorization":"Bearer s3cret"}}\x1e'
        % token.encode()
    )
    await service.settled()

    service.export(path)

    text = text_of(path)
    assert '"headers":{"Authorization":"[hidden]"}' in text
    for secret in ("t0ken", token, "s3cret", "X-ASRS-Signature", "AccessKey", "su:", client.connection_id):
        assert secret not in text
    assert '"query":{"code":"[hidden]"}' in text


async def test_a_session_played_to_the_same_app_makes_no_difference(session: Path) -> None:
    async with LocalService(make_app(), port=None) as service:
        assert await replay(session, service) == []


async def test_what_an_app_does_otherwise_is_a_difference(session: Path) -> None:
    async with LocalService(make_app(number=2), port=None) as service:
        differences = await replay(session, service)
    async with LocalService(make_app(says="heard"), port=None) as service:
        others = await replay(session, service)

    assert [(old and old.get("result"), new and new.get("result")) for old, new in differences] == [
        ({"to": "{client 1}", "n": 1}, {"to": "{client 1}", "n": 2}),
        (None, None),  # what the client received
    ]
    assert differences[1].now == {
        "client": 2,
        "receives": {"type": 3, "invocationId": "1", "result": {"to": "{client 1}", "n": 2}},
    }
    assert [new and next(iter(new.values())) for _, new in others] == [
        "POST /api/hubs/chat/connections/{client 1}/:send?api-version=2024-12-01",
        1,
    ]


async def test_more_and_less_are_differences(session: Path) -> None:
    told = {"client": 1, "receives": {"type": 1, "target": "told", "arguments": ["hello"]}}

    async with LocalService(make_app(twice=True), port=None) as service:
        more = await replay(session, service)
        service.export(session)
    async with LocalService(make_app(), port=None) as service:
        less = await replay(session, service)

    assert more[1] == Difference(recorded=None, now=told)
    assert less[1] == Difference(recorded=told, now=None)
    assert (len(more), len(less)) == (2, 2)


async def test_members_can_be_ignored(session: Path) -> None:
    async with LocalService(make_app(number=2), port=None) as service:
        assert await replay(session, service, ignore=["n"]) == []


async def test_clients_answer_what_the_app_asks_as_they_did(path: Path) -> None:
    asked = [
        (1, '"x"', '{"type":3,"invocationId":"s1","result":42}'),
        (2, '"y"', '{"type":3,"invocationId":"s2","error":"not now"}'),
    ]
    lines = [
        '{"signalr_upstream":"session","version":1}',
        '{"client":1,"opens":{"hub":"chat","user_id":"ann","claims":{},"query":{},"protocol":"json"}}',
    ]
    for number, argument, completion in asked:
        lines += [
            f'{{"client":1,"receives":{{"type":1,"invocationId":"s{number}","target":"ask","arguments":[{argument}]}}}}',
            f'{{"client":1,"sends":{completion}}}',
        ]
    write_lines(path, map(json.loads, lines))
    async with LocalService(make_app(), port=None) as service:
        await replay(path, service)
        (connection,) = service.hub("chat").everybody()
        answers = [await connection.invoke(ask(argument)) for argument in ("x", "y", "z")]

    assert [answer.error or bytes(answer.result) for answer in answers] == [
        b"42",
        "not now",
        "Client didn't provide a result.",
    ]


def ask(argument: str) -> Any:
    return Outgoing.json("ask", json.dumps([argument]).encode())


async def test_a_client_that_is_sent_away_earlier_is_a_difference_and_no_error(
    service: LocalService, path: Path
) -> None:
    client = await service.connect("chat")
    await client.send("leave")
    await client.send_raw(b"\x00 no message\x1e")
    assert await client.closed() is None
    await client.close()
    service.export(path)
    lines = read_lines(path)
    late = {"client": 1, "sends": {"type": 1, "target": "echo", "arguments": []}}
    told = {"client": 1, "upstream": "messages/echo", "arguments": [], "status": 204}
    write_lines(path, [{"signalr_upstream": "session", "version": 1}, *lines, late, told])

    async with LocalService(make_app(), port=None) as other:
        differences = await replay(path, other)

    assert Difference(told, None) in differences


async def test_pings_are_left_out(service: LocalService, path: Path) -> None:
    client = await service.connect("chat")
    await client.send_raw(b'{"type":6}\x1e')

    service.export(path)

    assert not [line for line in read_lines(path) if "sends" in line]


async def test_a_token_of_somebody_else_has_no_claims_that_could_be_told_apart(
    service: LocalService, path: Path
) -> None:
    key = parse_connection_string(service.connection_string).keys[0]
    claims = {"sub": "ann", "exp": 4102444800, "aud": "http://localhost/client/?hub=chat", "name": "a, b: c"}
    token = encode_token(claims, key)
    client = InProcessClient(service.asgi, connection_id="?", query="hub=chat", token=token)
    await client.open()
    await service.settled()

    service.export(path)

    (opens,) = [line["opens"] for line in read_lines(path) if "opens" in line]
    assert opens == {"hub": "chat", "user_id": "ann", "claims": {}, "query": {}, "protocol": "json"}


def test_rest_calls_with_what_they_answered(path: Path) -> None:
    journal = Journal(ManualClock())
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    for body, answer in ((b"", b'{"token":"%b"}' % token.encode()), (b'{"target":"cut of', b"")):
        request = journal.request("POST", "/api/hubs/chat/:x", [(b"Content-Type", b"application/json")], body)
        call = RestCall(request=request, answer=journal.answer(200, [], answer), start=0.0, seconds=0.0)
        journal.rest_called(call)
    journal.rest_called(RestCall(request=request, answer=None, start=0.0, seconds=0.0))

    _, *lines = lines_of(journal)

    assert lines == [
        {"rest": "POST /api/hubs/chat/:x", "status": 200, "answer": '{"token":"[hidden]"}'},
        {"rest": "POST /api/hubs/chat/:x", "cut": 17, "status": 200},
        {"rest": "POST /api/hubs/chat/:x", "cut": 17, "status": None},
    ]


async def test_recorded_calls_give_their_values(service: LocalService) -> None:
    await record(service)

    calls = {call.event: call for call in service.upstream_calls}
    rest = service.rest_calls[0]

    assert (calls["connected"].arguments, calls["connected"].status, calls["connected"].result) == (
        [],
        204,
        None,
    )
    assert (calls["tell"].arguments[1], calls["tell"].status, calls["tell"].result["n"]) == ("hello", 200, 1)
    assert (calls["fail"].user_id, calls["fail"].result, calls["fail"].failure) == ("ann", None, "No.")
    assert calls["tell"].failure is None
    assert rest.method == "POST"
    assert rest.path.startswith("/api/hubs/chat/connections/")
    assert (rest.status, rest.body) == (202, {"target": "told", "arguments": ["hello"]})


async def test_a_session_of_clients_with_sockets_is_played_without(path: Path) -> None:
    async with LocalService(make_app()) as service:
        key = parse_connection_string(service.connection_string).keys[0]
        claims = {"sub": "ann", "exp": 4102444800, "aud": "http://localhost/client/?hub=chat"}
        async with websockets.connect(
            f"ws://127.0.0.1:{service.port}/client/?hub=chat&room=1",
            additional_headers={"Authorization": f"Bearer {encode_token(claims, key)}"},
            proxy=None,
        ) as client:  # the handshake comes in pieces, and the first message with it
            await client.send('{"protocol":"json",')
            await client.send(
                '"version":1}\x1e{"type":1,"invocationId":"7","target":"echo","arguments":["é"]}\x1e'
            )
            assert await client.recv() == "{}\x1e"
            assert await client.recv() == '{"type":3,"invocationId":"7","result":"é"}\x1e'
        await service.settled()
        service.export(path)

    assert [list(line)[1] for line in read_lines(path)][:5] == [
        *("opens", "sends", "upstream", "upstream", "receives")
    ]
    async with LocalService(make_app(), port=None) as service:
        assert await replay(path, service) == []


async def test_what_is_no_message_is_kept_as_text(service: LocalService, path: Path) -> None:
    client = await service.connect("chat", protocol="messagepack")
    await client.send_raw(b"\x02\xff\xff")
    await client.closed()

    service.export(path)

    assert {"client": 1, "sends": {"text": "\x02\xff\xff"}} in read_lines(path)
    async with LocalService(make_app(), port=None) as other:
        assert await replay(path, other) == []


async def test_long_messages_are_cut_and_cannot_be_played(service: LocalService, path: Path) -> None:
    client = await service.connect("chat")
    await client.invoke("echo", "x" * 100_000)

    service.export(path)

    lines = read_lines(path)
    assert next(line for line in lines if "sends" in line)["sends"].keys() == {"cut"}
    assert "cut" in next(line for line in lines if line.get("upstream") == "messages/echo")
    with pytest.raises(InvalidMessageError):
        service.upstream_calls[-1].arguments  # noqa: B018
    async with LocalService(make_app(), port=None) as other:
        with pytest.raises(
            ConfigurationError, match=r"has sent 1000\d\d bytes at once, which were not all kept"
        ):
            await replay(path, other)


async def test_clients_that_the_app_never_heard_of_are_left_out(path: Path) -> None:
    async with LocalService(port=None) as service:
        await service.connect("chat")
        service.export(path)

    assert read_lines(path) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{}", "of version 1"),
        ("[1]", "not JSON"),
        ('{"signalr_upstream":"session","version":2}', "1$"),
    ],
)
def test_other_files_are_refused(path: Path, text: str, reason: str) -> None:
    path.write_text(text)

    with pytest.raises(ConfigurationError, match=reason):
        read_lines(path)


def test_a_journal_that_has_lost_its_start_says_so(path: Path) -> None:
    journal = Journal(ManualClock(), max_frames=1)
    assert lines_of(journal) == [{"signalr_upstream": "session", "version": 1}]
    for _ in range(3):
        journal.received("c1", b"x", binary=False)

    assert lines_of(journal) == [{"signalr_upstream": "session", "version": 1, "missing": 2}]


@pytest.mark.parametrize(
    "frame",
    [  # HubProtocol.md, the examples of the MessagePack encoding
        "96 01 80 a3 78 79 7a a6 6d 65 74 68 6f 64 91 2a 90",
        "95 03 80 a3 78 79 7a 03 2a",
        "95 03 80 a3 78 79 7a 01 a5 45 72 72 6f 72",
        "94 03 80 a3 78 79 7a 02",
        "94 02 80 a3 78 79 7a 2a",
        "95 03 80 a3 78 79 7a 03 d6 ff 5a 4a f6 a5",  # a timestamp
        "95 03 80 a3 78 79 7a 03 d4 05 2a",  # an extension
        "95 03 80 a3 78 79 7a 03 81 01 02",  # a number as a key
        "96 04 80 a3 78 79 7a a6 6d 65 74 68 6f 64 91 2a 90",
        "93 05 80 a3 78 79 7a",
    ],
)
def test_messages_in_messagepack_come_back_from_their_documents(frame: str) -> None:
    data = bytes.fromhex(frame)
    protocol = PROTOCOLS["messagepack"]
    message = protocol.decode(data)
    assert message is not None

    document = json.loads(json.dumps(document_of(message, binary=True)))

    assert frame_of(document, protocol) == bytes([len(data)]) + data
