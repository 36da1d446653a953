"""Settings of the server and of a cluster of them: addresses, keys, limits, deadlines, replicas."""

import ipaddress
import os
import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from chatterbox.config.sources import Settings

MIN_KEY_CHARS = 8
"""Guesses are slowed down (`server/auth.py`); a key that is a short word would still be found."""
MAX_KEY_CHARS = 512
_KEY = re.compile(r"[!-~]+")


def key_list(keys: SecretStr) -> list[str]:
    """The keys in the setting `api_keys`."""
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]


class ServerConfig(Settings):
    """Sockets, limits and deadlines."""

    host: str = "127.0.0.1"
    """Address to listen on"""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0: any free one"""
    models: str = ""
    """Several models in one server: names as in `model`, with commas between; the first, or `model`
    where it is set too, is the default; none: `model` alone"""
    load_models: Literal["start", "first_use"] = "start"
    """When models other than the default are loaded: start: before the server is ready, as many as
    fit; first_use: with the first request, which waits"""
    max_loaded_models: int = Field(0, ge=0, le=64)
    """Models in memory at once; the one used least recently makes room; more takes memory and makes
    fewer requests wait; 0: as many as memory holds"""
    models_memory_mb: int = Field(0, ge=0, le=10_000_000)
    """Memory of all loaded models, as measured when they are loaded; more keeps more of them; 0: no
    bound but what the card or the machine has free"""
    idle_unload_minutes: float = Field(0, ge=0, le=100_000)
    """Unload a model that nobody has used for so long; more keeps it longer, and makes fewer
    requests wait; 0: never"""
    max_text_length: int = Field(5000, ge=1, le=1_000_000)
    """Characters of one request; more keeps a place busy for longer"""
    max_voice_file_size: int = Field(50 * 1024 * 1024, ge=1024, le=2**31)
    """Bytes of one uploaded voice; raise `upload_disk_mb` with it"""
    request_timeout_s: float = Field(120, gt=0, le=3600)
    """Longest that a whole request may take; more lets long texts finish and stuck clients keep
    their places longer"""
    first_audio_timeout_s: float = Field(60, gt=0, le=3600)
    """Longest wait for a place and, if streamed, for the first sound; more gives fewer 504 and lets
    clients wait longer"""
    stall_timeout_s: float = Field(30, gt=0, le=3600)
    """Longest that one step of the engine may take before the process ends itself to be started
    anew; more forgives a slow machine and notices a hang later"""
    drain_timeout_s: float = Field(20, ge=0, le=3600)
    """Longest that running requests get to finish when asked to stop; more cuts off fewer and stops
    later"""
    shutdown_delay_s: float = Field(0, ge=0, le=300)
    """Go on serving for so long when asked to stop, unready, so that a load balancer looks away
    first; more stops later"""
    api_keys: SecretStr = SecretStr("")
    """Keys, with commas between; none: anyone may call"""
    operator_keys: SecretStr = SecretStr("")
    """Further keys, with commas between, which alone may load and unload models; none: all keys
    may"""
    max_requests_per_key: int | None = Field(None, ge=1, le=65536)
    """Concurrent requests of one key; more leaves less for the others; none: no limit with one key,
    three quarters of the places with several"""
    max_characters_per_key: int | None = Field(None, ge=1)
    """Characters of one key's requests at once; more leaves less for the others; none: any"""
    allowed_hosts: str = Field("", pattern=r"^(\*|[\w.-]+(, *[\w.-]+)*)?$")
    """Names that this server is called by, with commas between; *: any"""
    body_memory_mb: int = Field(64, ge=1, le=1_000_000)
    """Memory for the bodies of all requests at once; more receives more at once before 429"""
    upload_disk_mb: int = Field(256, ge=1, le=1_000_000)
    """Space in the temporary directory for all uploads at once; more receives more at once before
    507"""
    max_connections: int = Field(512, ge=16, le=65536)
    """Open connections; idle ones make room, then 503; more needs more file descriptors"""
    max_websockets: int = Field(256, ge=0, le=65536)
    """Open WebSockets, of `max_connections`; more get 503; 0: none"""
    max_websockets_per_key: int | None = Field(None, ge=1, le=65536)
    """Open WebSockets of one key; more leaves less for the others; none: no limit with one key,
    three quarters of all with several"""
    websocket_idle_timeout_s: float = Field(60, gt=0, le=3600)
    """Longest that a WebSocket may be silent while nothing is spoken; more keeps idle ones open
    longer"""
    cors_origins: str = Field("", pattern=r"^(\*|https?://[^\s,/*]+(, *https?://[^\s,/*]+)*)?$")
    """Web pages elsewhere that may call, as `http://host:port`, with commas between"""
    wyoming_port: int = Field(0, ge=0, le=65535)
    """Port of the Wyoming protocol (usually 10200); 0: off"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important lines that are logged; debug adds page, probes, scrapes and notes"""
    log_format: Literal["auto", "kv", "json"] = "auto"
    """Lines of the log; auto: readable on a terminal, else kv; kv: key=value; json: one object a
    line"""

    @property
    def keys(self) -> list[str]:
        """All of them; none: anyone may call."""
        return [*key_list(self.api_keys), *key_list(self.operator_keys)]

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
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
