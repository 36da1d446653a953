"""Awkward texts to every client, through the proxy of a cluster."""

import pytest
from dialects.test_awkward_texts import *  # noqa: F403

pytestmark = pytest.mark.cluster
