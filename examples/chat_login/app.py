"""Rooms behind logins, in a FastAPI app: negotiate believes the same bearer token as every other route."""

import hmac
import os
import secrets
import time
from typing import Annotated

import jwt
from fastapi import FastAPI, HTTPException
from msgspec import Struct
from pydantic import BaseModel
from starlette.requests import Request

from signalr_upstream import Context, Depends, Forbidden, Hub, Identity, UpstreamApp

# Several workers need one secret; without one, logins end with the process.
SECRET = os.environ.get("LOGIN_SECRET") or secrets.token_urlsafe(32)
LIFETIME = 3600


class User(Struct):
    name: str
    rooms: list[str]


# In place of a database with hashed passwords, or of your identity provider.
USERS = {
    "ann": ("wonderland", User("ann", ["tea", "garden"])),
    "bob": ("builder", User("bob", ["tea"])),
}

# --- logins: the app's own, SignalR knows nothing of them --------------------------------------------------------

app = FastAPI()


class Login(BaseModel):
    username: str
    password: str


@app.post("/login")
async def login(login: Login) -> dict[str, str]:
    """The answer of an OAuth 2 token endpoint."""
    password, user = USERS.get(login.username, ("", None))
    if user is None or not hmac.compare_digest(password.encode(), login.password.encode()):
        raise HTTPException(401, "Unknown name or wrong password.")
    claims = {"sub": user.name, "exp": int(time.time()) + LIFETIME}
    return {"access_token": jwt.encode(claims, SECRET, "HS256"), "token_type": "bearer"}


def current_user(request: Request) -> User:
    """Whose bearer token this is; for negotiate here, and for any other route."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise HTTPException(401, "Log in first: POST /login.")
        claims = jwt.decode(token, SECRET, ["HS256"], options={"require": ["exp", "sub"]})
        return USERS[claims["sub"]][1]
    except (jwt.InvalidTokenError, KeyError):
        raise HTTPException(401, "The login is not valid, or not any more.") from None


# --- the hub -----------------------------------------------------------------------------------------------------

chat = Hub("chat")


@chat.negotiate
def who(user: Annotated[User, Depends(current_user)]) -> Identity:
    return Identity(user.name, claims={"room": user.rooms}, lifetime=LIFETIME)


@chat.on("join")
async def join(ctx: Context, room: str) -> None:
    if room not in ctx.claims.get("room", ()):  # sealed by negotiate: nobody can add one
        raise Forbidden(f"You are not invited to {room}.")
    await ctx.groups.add(room)
    await ctx.clients.others_in_group(room).send("joined", room, ctx.user_id)


@chat.on("say")
async def say(ctx: Context, room: str, text: str) -> None:
    if room not in ctx.claims.get("room", ()):
        raise Forbidden(f"You are not invited to {room}.")
    await ctx.clients.group(room).send("said", room, ctx.user_id, text)


app.mount("/signalr", UpstreamApp(chat))
