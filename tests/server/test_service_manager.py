"""Notifications to systemd, received by a socket of the test."""

import socket

import pytest

from chatterbox.server.watchdog import ALIVE, READY, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_state_arrives_at_the_socket(abstract, tmp_path):
    name = f"@chatterbox-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        manager.settimeout(60)
        for state in (READY, ALIVE):
            notify(state, name)
            assert manager.recv(100).decode() == state


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "@nobody", "x" * 300, "a\0b"])
def test_missing_service_manager_is_ignored(address):
    notify(READY, address)


def test_notify_does_not_block_on_a_full_socket(tmp_path):
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        for _ in range(5000):
            notify(ALIVE, name)
