"""A SignalR hub at `/hubs/notifications`, for stock clients; see docs/adr/0010-signalr.md."""
