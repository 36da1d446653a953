"""Sockets of four dialects, through the proxy of a cluster."""

import pytest
from dialects.test_sockets_on_mini import *  # noqa: F403

pytestmark = pytest.mark.cluster
