"""The application that Ray Serve deploys, and the command `cluster`.

A Serve config file names `build`. The command starts Ray if `cluster_address` is `local`, deploys
the application, and waits for a signal.
"""

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
"""Memory of Ray's object store. Only large uploads pass through the store; audio does not."""
RAY_LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Logging options of Ray's processes: replicas already log each request."""
SPARE_REQUESTS = 32
"""Requests that a replica accepts beyond its places: probes, voice lists, uploads, refusals."""
RETRY_S = 5.0
"""`Retry-After` of Ray's answer when all replicas and their queues are full."""
HEALTH_CHECK_S = 2.0
"""Interval of the health checks. A replica that has ended is found within this time."""
LONGEST_SPEECH_S = 310.0
"""Duration of the longest text, for a client that reads at the speed of speech."""
MAX_STARTS = 3
"""Attempts to start a replica; after these the deployment fails."""


def build(args: dict[str, Any]) -> "serve.Application":
    """Entry point for a Ray Serve config file; see `application`."""
    return application(args)


def application(args: dict[str, Any], make_engine: MakeEngine | None = None) -> "serve.Application":
    """Return the application, configured by `args`, the environment and `.env`. `make_engine`
    replaces the model in measurements. Raises ConfigError."""
    cluster, server = load(ClusterConfig, args), load(ServerConfig, args)
    tts = load(TTSConfig, args)
    if server.wyoming_port:
        raise ConfigError("--wyoming-port: not available in a cluster; remove it")
    if cluster.max_replicas is not None and cluster.max_replicas < cluster.replicas:
        raise ConfigError(
            f"--max-replicas={cluster.max_replicas}: must not be less than --replicas"
        )
    if not cluster.gpus_per_replica and "threads" not in tts.model_fields_set:
        tts = tts.model_copy(update={"threads": max(1, math.floor(cluster.cpus_per_replica))})
    if tts.voices is None:  # the replicas of one machine share a folder
        tts = tts.model_copy(update={"voices": str(tts.data_dir)})
    # long enough to finish the last answer, and to close an idle socket
    longest_s = max(server.request_timeout_s + LONGEST_SPEECH_S, server.websocket_idle_timeout_s)
    places = _places(tts, cluster)
    most_requests = sum(places) + server.max_websockets + SPARE_REQUESTS
    deployed: Any = serve.deployment(serve.ingress()(Replica)).options(
        name=DEPLOYMENT,
        ray_actor_options={
            "num_cpus": cluster.cpus_per_replica,
            "num_gpus": cluster.gpus_per_replica,
        },
        max_ongoing_requests=most_requests,
        max_queued_requests=most_requests,
        backpressure_config={"status_code": 429, "retry_after_s": RETRY_S},
        health_check_period_s=HEALTH_CHECK_S,
        health_check_timeout_s=server.stall_timeout_s,
        graceful_shutdown_timeout_s=longest_s,
        max_constructor_retry_count=MAX_STARTS,
        logging_config=RAY_LOGGING,
        **_replica_count(cluster, places[0]),
    )
    return deployed.bind(tts, server, make_engine)


def _places(tts: TTSConfig, cluster: ClusterConfig) -> tuple[int, int]:
    """Return how many requests one replica runs and queues. With a GPU, these depend on its memory,
    which is unknown here, so they are the largest numbers possible."""
    if cluster.gpus_per_replica:
        maximum = default_settings(math.inf)
        tts = tts.model_copy(update={n: maximum[n] for n in maximum.keys() - tts.model_fields_set})
    return tts.max_concurrent_requests, tts.max_queued_requests


def _replica_count(cluster: ClusterConfig, places: int) -> dict[str, Any]:
    if cluster.max_replicas is None:
        return {"num_replicas": cluster.replicas}
    bounds = {"min_replicas": cluster.replicas, "max_replicas": cluster.max_replicas}
    return {"autoscaling_config": {**bounds, "target_ongoing_requests": places}}


def run(flags: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Deploy the application. If Ray was started here, also wait for a signal and stop Ray. Returns
    the exit code."""
    settings = dict(flags)
    cluster, server = load(ClusterConfig, settings), load(ServerConfig, settings)
    deployed = application(settings)
    is_local = cluster.cluster_address == LOCAL
    port, address = server.port, f"http://{server.host}:{server.port}"
    if is_local:
        sock = bind(server.host, server.port)  # reports a port in use in one clear line
        port, address = sock.getsockname()[1], address_of(sock)
        sock.close()
    elif load(TTSConfig, settings).voices is None:
        raise ConfigError("--voices: set the folder or bucket where all machines store voices")
    with connected(cluster, server.host, port):
        _check_room(cluster)
        say(f"Chatterbox: starting {cluster.replicas} replicas at {address} (Ctrl-C stops)")
        _deploy(deployed)
        scrape = ray.nodes()[0]["MetricsExportPort"]
        say(f"Ready: {cluster.replicas} replicas at {address} (Ray's own metrics: port {scrape})")
        if not is_local:
            say(
                "The replicas keep running. `serve status` shows them, `serve shutdown` stops them."
            )
            return 0
        with suppress(KeyboardInterrupt):
            for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `&` disables SIGINT
                signal.signal(number, signal.default_int_handler)
            threading.Event().wait()
        say("Stopping after the running requests. Press Ctrl-C again to cut them off.")
        serve.shutdown()
    return 128 + signal.SIGINT


@contextmanager
def connected(cluster: ClusterConfig, host: str, port: int) -> Iterator[None]:
    """Start or join Ray, with its proxies listening on `host` and `port`. Raises ConfigError."""
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
            logging_config=RAY_LOGGING,
        )
        yield
    finally:
        ray.shutdown()


def _check_room(cluster: ClusterConfig) -> None:
    """Raise ConfigError if the cluster is too small, where Ray would wait forever."""
    resources = ray.cluster_resources()
    for kind, each in (("GPU", cluster.gpus_per_replica), ("CPU", cluster.cpus_per_replica)):
        needed = each * cluster.replicas
        if needed > (found := resources.get(kind, 0)):
            raise ConfigError(
                f"{cluster.replicas} replicas need {needed:g} {kind}s, but the cluster has"
                f" {found:g}: lower --replicas or --{kind.lower()}s-per-replica"
            )


def _deploy(deployed: "serve.Application") -> None:
    """Deploy and wait until all replicas are ready. Raises ModelError."""
    try:
        serve.run(deployed, name=NAME)
    except RuntimeError:
        status = serve.status().applications.get(NAME)
        reason = status.message if status else "they could not be started"
        raise ModelError(f"The replicas do not start: {reason}") from None
