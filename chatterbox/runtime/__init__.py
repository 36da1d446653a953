"""Runs ONNX graphs: sessions, key-value slots, bound calls, streaming codec decoders, noise."""

from chatterbox.config.sources import silence_telemetry

silence_telemetry()
