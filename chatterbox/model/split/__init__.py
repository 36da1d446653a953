"""The decoder, opened up: its draws made inputs, cut into flow and vocoder, proven, streamed."""
