"""The Wyoming protocol of Home Assistant, on its own port (`wyoming_port`)."""

from chatterbox.dialects.wyoming.session import listener
from chatterbox.server.dialect import Dialect

DIALECT = Dialect(listener=listener)
