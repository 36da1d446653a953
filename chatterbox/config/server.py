"""Settings of the server and of a cluster: addresses, keys, limits, deadlines, replicas."""

import ipaddress
import os
import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from chatterbox.config.sources import Settings

MIN_KEY_CHARS = 8
"""Shortest key; shorter keys could be guessed although `server/auth.py` slows down guessing."""
MAX_KEY_CHARS = 512
_KEY = re.compile(r"[!-~]+")


def key_list(keys: SecretStr) -> list[str]:
    """Split a setting with comma-separated keys."""
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]


class ServerConfig(Settings):
    """Addresses, keys, limits and deadlines of a server."""

    host: str = "127.0.0.1"
    """Address to listen on"""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free port"""
    models: str = ""
    """Models to serve, comma-separated, with names as in `model`; the default is `model` if set,
    otherwise the first name; empty serves `model` alone"""
    load_models: Literal["start", "first_use"] = "start"
    """When to load models other than the default; start loads as many as fit before the server is
    ready; first_use loads a model on its first request, which waits"""
    max_loaded_models: int = Field(0, ge=0, le=64)
    """Maximum number of models in memory at once; beyond that, the least recently used model is
    unloaded; more takes memory and makes fewer requests wait; 0 sets no limit but memory"""
    models_memory_mb: int = Field(0, ge=0, le=10_000_000)
    """Memory limit for all loaded models, as measured when they load; more keeps more models
    loaded; 0 uses what the GPU or machine has free"""
    idle_unload_minutes: float = Field(0, ge=0, le=100_000)
    """Unload a model after this many idle minutes; more keeps it in memory longer and makes fewer
    requests wait; 0 never unloads"""
    max_text_length: int = Field(5000, ge=1, le=1_000_000)
    """Maximum number of characters in one request; more lets a request occupy its place for
    longer"""
    max_voice_file_size: int = Field(50 * 1024 * 1024, ge=1024, le=2**31)
    """Maximum number of bytes in one uploaded voice; raise `upload_disk_mb` along with it"""
    request_timeout_s: float = Field(120, gt=0, le=3600)
    """Longest duration of a whole request; more lets long texts finish, and lets stuck clients
    occupy places longer"""
    first_audio_timeout_s: float = Field(60, gt=0, le=3600)
    """Longest wait for a place and, when streaming, for the first audio; more means fewer 504
    errors and longer waits"""
    stall_timeout_s: float = Field(30, gt=0, le=3600)
    """Longest duration of one engine step before the process exits to be restarted; more tolerates
    slow machines and detects a hang later"""
    drain_timeout_s: float = Field(20, ge=0, le=3600)
    """Longest time that running requests get to finish at shutdown; more cuts off fewer requests
    and stops later"""
    shutdown_delay_s: float = Field(0, ge=0, le=300)
    """Keep serving this long at shutdown while reporting not ready, so that load balancers stop
    sending requests first; more stops later"""
    api_keys: SecretStr = SecretStr("")
    """API keys, comma-separated; empty allows anyone to call"""
    operator_keys: SecretStr = SecretStr("")
    """Additional API keys, comma-separated, that alone may load and unload models; empty allows
    every key to"""
    max_requests_per_key: int | None = Field(None, ge=1, le=65536)
    """Maximum number of concurrent requests of one key; more leaves less for other keys; unset
    means no limit for a single key, and three quarters of the places with several keys"""
    max_characters_per_key: int | None = Field(None, ge=1)
    """Maximum number of characters in progress at once for one key; more leaves less for other
    keys; unset means no limit"""
    allowed_hosts: str = Field("", pattern=r"^(\*|[\w.-]+(, *[\w.-]+)*)?$")
    """Host names that requests may use for this server, comma-separated; * allows any"""
    body_memory_mb: int = Field(64, ge=1, le=1_000_000)
    """Memory for the bodies of all requests together; more receives more bodies at once before
    answering 429"""
    upload_disk_mb: int = Field(256, ge=1, le=1_000_000)
    """Space in the temporary directory for all uploads together; more receives more uploads at once
    before answering 507"""
    max_connections: int = Field(512, ge=16, le=65536)
    """Maximum number of open connections; beyond that, idle connections are closed, then new ones
    get 503; more needs more file descriptors"""
    max_websockets: int = Field(256, ge=0, le=65536)
    """Maximum number of open WebSockets, which count towards `max_connections`; beyond that, new
    ones get 503; more uses more memory; 0 refuses all WebSockets"""
    max_websockets_per_key: int | None = Field(None, ge=1, le=65536)
    """Maximum number of open WebSockets of one key; more leaves less for other keys; unset means no
    limit for a single key, and three quarters of `max_websockets` with several keys"""
    websocket_idle_timeout_s: float = Field(60, gt=0, le=3600)
    """Close a WebSocket that is silent this long while nothing is spoken; more keeps idle
    connections open longer"""
    cors_origins: str = Field("", pattern=r"^(\*|https?://[^\s,/*]+(, *https?://[^\s,/*]+)*)?$")
    """Origins of other web pages that may call, such as `http://host:port`, comma-separated; *
    allows any"""
    wyoming_port: int = Field(0, ge=0, le=65535)
    """Port of the Wyoming protocol, usually 10200; 0 disables it"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of log messages; debug also logs page requests, probes, metric scrapes and
    loading notes"""
    log_format: Literal["auto", "kv", "json"] = "auto"
    """Format of log lines; auto is readable text on a terminal and kv elsewhere; kv is key=value;
    json is one object per line"""

    @property
    def keys(self) -> list[str]:
        """All keys, operator keys included. If there are none, anyone may call."""
        return [*key_list(self.api_keys), *key_list(self.operator_keys)]

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @field_validator("api_keys", "operator_keys")
    @classmethod
    def _plain(cls, value: SecretStr) -> SecretStr:
        for key in key_list(value):
            if not (MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS and _KEY.fullmatch(key)):
                raise ValueError(
                    f"a key is {MIN_KEY_CHARS} to {MAX_KEY_CHARS} visible ASCII characters"
                )
        return value


class ClusterConfig(Settings):
    """Settings of a cluster of replicas. All other settings apply to each replica."""

    replicas: int = Field(1, ge=1, le=4096)
    """Number of servers behind one address, each with its own copy of the model; more serves more
    requests at once and takes more GPUs, cores and memory"""
    max_replicas: int | None = Field(None, ge=1, le=4096)
    """Start additional replicas while all are busy, up to this number, and stop them when they are
    idle; unset always runs `replicas`"""
    gpus_per_replica: float = Field(0, ge=0, le=16)
    """GPUs for each replica; 0.5 lets two replicas share one; 0 uses the CPU"""
    cpus_per_replica: float = Field(1, ge=0, le=1024)
    """Cores reserved for each replica; on a CPU also its `threads`, unless they are set; more makes
    each replica faster and fits fewer on a machine"""
    cluster_address: str = "local"
    """Address of a running Ray cluster, `auto` or `HOST:PORT`; local starts a cluster on this
    machine for as long as the command runs"""
    dashboard: bool = False
    """Start Ray's dashboard on port 8265 of this machine; uses about 0.3 GB of memory"""


RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # otherwise only some of Ray's commands read the token
    "RAY_USAGE_STATS_ENABLED": "0",  # otherwise Ray reports usage to its authors
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "chatterbox.cluster.proxy:middleware",
}
"""Variables that Ray reads when it is imported and passes on to its processes."""


def prepare_ray() -> None:
    """Set the missing variables of RAY_ENVIRONMENT. Call this before importing Ray."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
