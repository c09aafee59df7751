"""The app that the clients of ``test_clients.py`` talk to: a handler for each thing a user can see."""

from typing import Any

from starlette.requests import Request

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp, role

hub = Hub("tests_*")  # each test has a hub of its own, so that none hears the end of another


@hub.negotiate
async def who(request: Request) -> Identity:
    query = request.query_params
    return Identity(
        user_id=query["user"], claims={"role": query.getlist("role"), "name": query.getlist("name")}
    )


@hub.on("connected")
async def connected(ctx: Context) -> None:
    if ctx.user_id == "banned":
        await ctx.clients.others.send("turnedAway", ctx.connection_id)
        raise HubError("You are banned.")


@hub.on("disconnected")
async def disconnected(ctx: Context) -> None:
    await ctx.clients.all.send("gone", ctx.user_id)


# --- results and errors -------------------------------------------------------------------------------------


@hub.on("whoAmI")
def who_am_i(ctx: Context) -> dict[str, str | None]:
    return {"user": ctx.user_id, "connection": ctx.connection_id}


@hub.on("echo")
async def echo(ctx: Context, *values: Any) -> list[Any]:
    return list(values)


@hub.on("nothing")
async def nothing(ctx: Context) -> None:
    pass


@hub.on("add")
async def add(ctx: Context, left: int, right: int) -> int:
    return left + right


@hub.on("refuse")
async def refuse(ctx: Context) -> None:
    raise HubError("Not on Mondays.")


@hub.on("refuseWith")
async def refuse_with(ctx: Context, text: str) -> None:
    raise HubError(text)


@hub.on("crash")
async def crash(ctx: Context) -> None:
    raise RuntimeError("the password is swordfish")


@hub.on("rule", require=role("admin"))
async def rule(ctx: Context) -> str:
    return "as you wish"


# --- sends --------------------------------------------------------------------------------------------------


@hub.on("tellAll")
async def tell_all(ctx: Context, text: str) -> None:
    await ctx.clients.all.send("told", text)


@hub.on("tellOthers")
async def tell_others(ctx: Context, text: str) -> None:
    await ctx.clients.others.send("told", text)


@hub.on("tellCaller")
async def tell_caller(ctx: Context, text: str) -> None:
    await ctx.clients.caller.send("told", text)


@hub.on("tellAllExcept")
async def tell_all_except(ctx: Context, connections: list[str], text: str) -> None:
    await ctx.clients.all_except(connections).send("told", text)


@hub.on("tellUser")
async def tell_user(ctx: Context, user: str, text: str) -> None:
    await ctx.clients.user(user).send("told", text)


@hub.on("tellConnection")
async def tell_connection(ctx: Context, connection: str, text: str) -> None:
    await ctx.clients.connection(connection).send("told", text)


@hub.on("tellGroup")
async def tell_group(ctx: Context, group: str, text: str) -> None:
    await ctx.clients.group(group).send("told", text)


@hub.on("tellOthersInGroup")
async def tell_others_in_group(ctx: Context, group: str, text: str) -> None:
    await ctx.clients.others_in_group(group).send("told", text)


# --- membership ---------------------------------------------------------------------------------------------


@hub.on("join")
async def join(ctx: Context, group: str) -> bool:
    return await ctx.groups.add(group)


@hub.on("leave")
async def leave(ctx: Context, group: str) -> None:
    await ctx.groups.remove(group)


@hub.on("addUser")
async def add_user(ctx: Context, user: str, group: str) -> bool:
    await ctx.users.add_to_group(user, group=group)
    return await ctx.users.in_group(user, group=group)


@hub.on("connectionExists")
async def connection_exists(ctx: Context, connection: str) -> bool:
    return await ctx.connections.exists(connection)


@hub.on("userExists")
async def user_exists(ctx: Context, user: str) -> bool:
    return await ctx.users.exists(user)


@hub.on("groupExists")
async def group_exists(ctx: Context, group: str) -> bool:
    return await ctx.groups.exists(group)


@hub.on("kick")
async def kick(ctx: Context, connection: str) -> bool:
    return await ctx.connections.close(connection, reason="kicked")


app = UpstreamApp(hub)
