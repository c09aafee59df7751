"""The app that clients find the service through. What they hear comes from ``worker.py``, another process."""

from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, UpstreamApp

prices = Hub("prices")


@prices.negotiate
async def anybody(request: Request) -> Identity:
    return Identity.anonymous()


@prices.on("watch")
async def watch(ctx: Context, symbol: str) -> None:
    await ctx.groups.add(symbol)


app = UpstreamApp(prices)
