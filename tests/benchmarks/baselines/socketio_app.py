"""python-socketio as people serve it: its ASGI app on uvicorn. POST /trigger emits the body to everybody."""

import socketio

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
clients = socketio.ASGIApp(server)


async def app(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/trigger":
        await clients(scope, receive, send)
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await server.emit("message", body.decode())
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
