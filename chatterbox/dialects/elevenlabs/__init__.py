"""ElevenLabs' HTTP API and WebSockets."""
