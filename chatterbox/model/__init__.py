"""Which graphs, from where, in which session, with which provider options."""

from chatterbox.config import silence_telemetry

silence_telemetry()  # before anything below this package imports onnxruntime
