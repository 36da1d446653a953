"""The application that Ray Serve deploys: `build`, which a Serve config file names too; and the
command `cluster`, which starts Ray where it does not run, deploys, and waits for a signal."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import serve

from chatterbox.cluster.replica import MakeEngine, Replica
from chatterbox.config import ClusterConfig, ServerConfig, TTSConfig, load
from chatterbox.errors import ConfigError, ModelError
from chatterbox.runtime.gpu import default_settings
from chatterbox.server.run import address_of, bind

NAME, DEPLOYMENT = "chatterbox", "tts"
LOCAL = "local"
OBJECT_STORE_BYTES = 100 * 2**20
"""Sound does not go through it; only the larger uploads do."""
RAYS_LOG = {"enable_access_log": False, "log_level": "WARNING"}
"""Replicas write a line for each request themselves."""
SPARE = 32
"""Requests that take no place: probes, lists of voices, uploads, refusals on their way."""
RETRY_S = 5.0
"""Said by Ray where more wait than all replicas may hold."""
LOOK_S = 2.0
"""Between two looks at a replica: so soon it is seen that one has ended."""
LISTENED_S = 310.0
"""How long the longest text lasts, for whoever listens to it as it comes."""
STARTS = 3
"""Attempts at a replica before a deployment is given up."""


def build(args: dict[str, Any]) -> "serve.Application":
    """What a config file of Ray Serve names; see `application`."""
    return application(args)


def application(args: dict[str, Any], make_engine: MakeEngine | None = None) -> "serve.Application":
    """Replicas with the settings in `args`, the environment and `.env`. Raises ConfigError."""
    cluster, server = load(ClusterConfig, args), load(ServerConfig, args)
    tts = load(TTSConfig, args)
    if server.wyoming_port:
        raise ConfigError("--wyoming-port: a cluster serves HTTP and WebSockets alone")
    if cluster.max_replicas is not None and cluster.max_replicas < cluster.replicas:
        raise ConfigError(f"--max-replicas={cluster.max_replicas}: less than --replicas")
    if not cluster.gpus_per_replica and "threads" not in tts.model_fields_set:
        tts = tts.model_copy(update={"threads": max(1, math.floor(cluster.cpus_per_replica))})
    if tts.voices is None:  # even on one machine several servers share them
        tts = tts.model_copy(update={"voices": str(tts.data_dir)})
    # until the last answer has come to its end, and an idle socket has been closed
    longest_s = max(server.request_timeout_s + LISTENED_S, server.websocket_idle_timeout_s)
    places = _places(tts, cluster)
    held = sum(places) + server.max_websockets + SPARE
    deployed: Any = serve.deployment(serve.ingress()(Replica)).options(
        name=DEPLOYMENT,
        ray_actor_options={
            "num_cpus": cluster.cpus_per_replica,
            "num_gpus": cluster.gpus_per_replica,
        },
        max_ongoing_requests=held,
        max_queued_requests=held,
        backpressure_config={"status_code": 429, "retry_after_s": RETRY_S},
        health_check_period_s=LOOK_S,
        health_check_timeout_s=server.stall_timeout_s,
        graceful_shutdown_timeout_s=longest_s,
        max_constructor_retry_count=STARTS,
        logging_config=RAYS_LOG,
        **_size(cluster, places[0]),
    )
    return deployed.bind(tts, server, make_engine)


def _places(tts: TTSConfig, cluster: ClusterConfig) -> tuple[int, int]:
    """Requests in work in one replica, and in its queue. Where its GPU decides, which is not seen
    from here, as many as that may be."""
    if cluster.gpus_per_replica:
        most = default_settings(math.inf)
        tts = tts.model_copy(update={n: most[n] for n in most.keys() - tts.model_fields_set})
    return tts.max_concurrent_requests, tts.max_queued_requests


def _size(cluster: ClusterConfig, places: int) -> dict[str, Any]:
    if cluster.max_replicas is None:
        return {"num_replicas": cluster.replicas}
    bounds = {"min_replicas": cluster.replicas, "max_replicas": cluster.max_replicas}
    return {"autoscaling_config": {**bounds, "target_ongoing_requests": places}}


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
            for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `&` has the first ignored
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
