"""REST operations that hand out what opens doors: tokens for clients, and keys to sign such tokens with."""

from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, Response

from ...auth import encode_token
from .rest_call import Call
from .signing_keys import SigningKeys

DEFAULT_MINUTES = 60
ISSUER = "azure-signalr"  # as in the tokens of Microsoft's SDK

Handler = Callable[[Call], Awaitable[Response | None]]


def token_maker(keys: SigningKeys) -> Handler:
    """``:generateToken``, signed with the service's first key."""

    async def generate_token(call: Call) -> Response:
        minutes = call.integer("minutesToExpire", least=1) or DEFAULT_MINUTES
        user_id = call.query.last("userid")
        now = int(call.now)
        claims: dict[str, object] = {} if user_id is None else {"asrs.s.uid": user_id}
        claims |= {"nbf": now, "exp": now + 60 * minutes, "iat": now, "iss": ISSUER}
        claims["aud"] = f"{call.audience}/client/?hub={call.hub_name}"
        return JSONResponse({"token": encode_token(claims, keys.first)})

    return generate_token


def key_maker(keys: SigningKeys) -> Handler:
    """``auth/accessKey``: a temporary key and the ``kid`` of the tokens that it signs."""

    async def access_key(call: Call) -> Response:
        temporary = keys.temporary()
        return JSONResponse({"AccessKey": temporary.key, "KeyId": temporary.key_id})

    return access_key
