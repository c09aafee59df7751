"""A local service, its app and its clients in one process, without a socket."""
