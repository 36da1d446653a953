"""ElevenLabs' client, through the proxy of a cluster."""

import pytest
from dialects.test_elevenlabs_http import *  # noqa: F403

pytestmark = pytest.mark.cluster
