"""The Wyoming protocol of Home Assistant."""

from chatterbox.dialects.wyoming.listener import listener
from chatterbox.server.dialect import Dialect

DIALECT = Dialect(listener=listener)
