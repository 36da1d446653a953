"""The application that Ray Serve deploys: `build`, which a Serve config file names too."""

import math
from typing import Any

from ray import serve

from chatterbox.cluster.replica import MakeEngine, Replica
from chatterbox.config import ClusterConfig, ServerConfig, TTSConfig, load
from chatterbox.errors import ConfigError
from chatterbox.runtime.gpu import default_settings

NAME, DEPLOYMENT = "chatterbox", "tts"
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
