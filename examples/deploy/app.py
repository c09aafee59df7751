"""An app with no access key: Entra ID proves the app to the service, and the service to the app.

What it has to know comes from the environment, and its one secret from a mounted file.
"""

import os
from pathlib import Path

from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, UpstreamApp
from signalr_upstream.entra import EntraUpstream

chat = Hub("chat")


@chat.negotiate
async def who(request: Request) -> Identity:
    return Identity(request.query_params.get("name", "somebody"))  # yours: whoever is logged in


@chat.on("sendMessage")
async def send_message(ctx: Context, text: str) -> None:
    await ctx.clients.all.send("newMessage", ctx.user_id, text)


app = UpstreamApp(  # AzureSignalRConnectionString has AuthType= and no key
    chat,
    entra=EntraUpstream(
        tenant=os.environ["TENANT"],
        audience=os.environ["AUDIENCE"],
        identities=[os.environ["SIGNALR_IDENTITY"]],
    ),
    # Signs the identities of clients: the same in every worker and container, and known to nobody else.
    seal_key=Path(os.environ["SEAL_KEY_FILE"]).read_text().strip(),
    cors_origins=os.environ.get("CORS_ORIGINS", "").split(),
)
