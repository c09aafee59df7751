-- wrk: the request of upstream.lua with the body in the file BODY, of the type TYPE.
dofile(os.getenv("BASE"))
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("TYPE")
