"""What the WebSocket protocols share."""
