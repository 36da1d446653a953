"""OpenAI's client, through the proxy of a cluster."""

import pytest
from dialects.test_openai import *  # noqa: F403

pytestmark = pytest.mark.cluster
