"""Azure SignalR Service in serverless mode: upstream handlers, output client, local service."""
