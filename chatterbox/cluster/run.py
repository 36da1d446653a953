"""The command `cluster`: starts Ray where it does not run, deploys, and waits for a signal."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import serve

from chatterbox.cluster.application import NAME, RAYS_LOG, application
from chatterbox.config import ClusterConfig, ServerConfig, TTSConfig, load
from chatterbox.errors import ConfigError, ModelError
from chatterbox.server.run import address_of, bind

LOCAL = "local"
OBJECT_STORE_BYTES = 100 * 2**20
"""Sound does not go through it; only the larger uploads do."""


def run(flags: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Deploy; in a cluster of our own, wait for a signal and stop it. Returns the exit code."""
    given = dict(flags)
    cluster, server = load(ClusterConfig, given), load(ServerConfig, given)
    deployed = application(given)
    ours = cluster.cluster_address == LOCAL
    port, address = server.port, f"http://{server.host}:{server.port}"
    if ours:
        sock = bind(server.host, server.port)  # says so in one line where it cannot be had
        port, address = sock.getsockname()[1], address_of(sock)
        sock.close()
    elif load(TTSConfig, given).voices is None:
        raise ConfigError("--voices: name the folder or bucket that all machines keep voices in")
    with connected(cluster, server.host, port):
        _check_room(cluster)
        say(f"Chatterbox: starting {cluster.replicas} replicas at {address} (Ctrl-C stops)")
        _deploy(deployed)
        scrape = ray.nodes()[0]["MetricsExportPort"]
        say(f"Ready: {cluster.replicas} replicas at {address} (Ray's own metrics: port {scrape})")
        if not ours:
            say("It goes on by itself. `serve status` shows it, `serve shutdown` stops it.")
            return 0
        with suppress(KeyboardInterrupt):
            for number in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # a shell's `&` has the first one ignored
                signal.signal(number, signal.default_int_handler)
            threading.Event().wait()
        say("Stopping: running answers go on to their end. Ctrl-C again cuts them off.")
        serve.shutdown()
    return 128 + signal.SIGINT


@contextmanager
def connected(cluster: ClusterConfig, host: str, port: int) -> Iterator[None]:
    """With Ray, started on this machine or joined where it runs, and its proxies at that address.
    Raises ConfigError."""
    options: dict[str, Any] = {}
    if cluster.cluster_address == LOCAL:
        options["include_dashboard"] = cluster.dashboard
        options["object_store_memory"] = OBJECT_STORE_BYTES
    try:
        ray.init(cluster.cluster_address, namespace=NAME, logging_level=logging.WARNING, **options)
    except (ConnectionError, ValueError) as fault:
        reason = str(fault).splitlines()[0]
        raise ConfigError(f"--cluster-address {cluster.cluster_address}: {reason}") from None
    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": host, "port": port},
            logging_config=RAYS_LOG,
        )
        yield
    finally:
        ray.shutdown()


def _check_room(cluster: ClusterConfig) -> None:
    """Raises ConfigError where so many replicas would wait for ever."""
    there = ray.cluster_resources()
    for kind, each in (("GPU", cluster.gpus_per_replica), ("CPU", cluster.cpus_per_replica)):
        needed = each * cluster.replicas
        if needed > (found := there.get(kind, 0)):
            raise ConfigError(
                f"{cluster.replicas} replicas need {needed:g} {kind}s, and there are {found:g}:"
                f" fewer --replicas, or less --{kind.lower()}s-per-replica"
            )


def _deploy(deployed: "serve.Application") -> None:
    """Blocks until all replicas are ready. Raises ModelError."""
    try:
        serve.run(deployed, name=NAME)
    except RuntimeError:
        status = serve.status().applications.get(NAME)
        reason = status.message if status else "they could not be started"
        raise ModelError(f"The replicas do not start: {reason}") from None
