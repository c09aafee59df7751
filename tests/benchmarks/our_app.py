"""The app of the baselines, written with signalr-upstream."""

from signalr_upstream import Hub, UpstreamApp

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="

chat = Hub("chat")


@chat.on("echo")
async def echo(text: str, count: int) -> str:
    return text


app = UpstreamApp(
    chat, connection_string=f"Endpoint=http://localhost;Port=18890;AccessKey={KEY};Version=1.0;"
)
