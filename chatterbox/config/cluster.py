"""Settings of a cluster: how many replicas of the server there are, and what each of them gets."""

import os

from pydantic import Field

from chatterbox.config.sources import Settings


class ClusterConfig(Settings):
    """Replicas behind one address. The other settings hold for each replica."""

    replicas: int = Field(1, ge=1, le=4096)
    """Servers behind one address, each with a model of its own; more serve more requests at once,
    and each takes its GPU, cores and memory"""
    max_replicas: int | None = Field(None, ge=1, le=4096)
    """Start more replicas while all are busy, up to so many, and stop them again when they are not;
    none: always `replicas`"""
    gpus_per_replica: float = Field(0, ge=0, le=16)
    """GPUs of each replica, as 1; 0.5: two replicas share one; 0: the CPU"""
    cpus_per_replica: float = Field(1, ge=0, le=1024)
    """Cores that are reserved for each replica; on the CPU also its `threads` where those are not
    set; more makes each replica faster and lets fewer run on a machine"""
    cluster_address: str = "local"
    """A Ray cluster that runs already, as `auto` or `HOST:PORT`; local: one on this machine alone,
    for as long as the command runs"""
    dashboard: bool = False
    """Start Ray's dashboard, at port 8265 of this machine; takes about 0.3 GB"""


RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # else only some of its commands look for the token
    "RAY_USAGE_STATS_ENABLED": "0",  # else it sends its makers what it runs on
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "chatterbox.cluster.proxy:middleware",
}
"""What Ray reads as it is imported, and hands on to the processes it starts."""


def prepare_ray() -> None:
    """Set what the environment does not have. Before Ray is imported."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
