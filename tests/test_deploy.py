"""What is in deploy/ names settings that exist and keeps what docs/run/operations.md promises."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chatterbox.config import CONFIGS, ENV_PREFIX, ServerConfig
from chatterbox.errors import EXIT_BAD_CONFIG, EXIT_BAD_MODEL
from chatterbox.server.watchdog import LAST_RESORT_S

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
SETTINGS = {ENV_PREFIX + field.upper() for config in CONFIGS for field in config.model_fields}
STALL_S = ServerConfig.model_fields["stall_timeout_s"].default
DRAIN_S = ServerConfig.model_fields["drain_timeout_s"].default + 5


@pytest.mark.parametrize(
    "path", sorted(filter(Path.is_file, DEPLOY.rglob("*"))), ids=lambda path: path.name
)
def test_every_setting_exists(path):
    named = set(re.findall(r"CHATTERBOX_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert named <= SETTINGS


def test_the_unit():
    parser = configparser.RawConfigParser(strict=False)  # of keys that come twice: the last
    parser.optionxform = str
    parser.read(DEPLOY / "chatterbox.service", encoding="utf-8")
    service = parser["Service"]
    assert service["User"] != "root"
    assert float(service["TimeoutStopSec"]) > DRAIN_S
    assert service["RestartPreventExitStatus"].split() == [
        str(EXIT_BAD_CONFIG),
        str(EXIT_BAD_MODEL),
    ]
    assert service["ExecStart"].endswith("python -P -m chatterbox serve")
    assert service["EnvironmentFile"].startswith("/")  # a missing file must not start without keys
    assert (service["Type"], service["UMask"]) == ("notify", "0077")
    assert float(service["WatchdogSec"]) > STALL_S + LAST_RESORT_S
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"  # started again without a limit
    assert int(service["RestartSteps"]) > 1
    assert float(service["RestartMaxDelaySec"]) > float(service["RestartSec"])
    assert {"MemoryMax", "TasksMax"} <= service.keys()
    for guard in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictNamespaces"):
        assert service[guard] == "yes"
    assert (service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("strict", "")


def test_the_image():
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    names = [name for name, _ in steps]
    users = [what for name, what in steps if name == "USER"]
    assert users == ["10001"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert any(name == "HEALTHCHECK" and '"health", "--pid", "1"' in what for name, what in steps)
    installs = [what for name, what in steps if name == "RUN" and "pip install" in what]
    assert all("--require-hashes" in what and "requirements.lock" in what for what in installs)
    assert dict(steps)["FROM"] == "${PYTHON_IMAGE}"  # by digest where it is known
    for name, what in steps:
        for source in what.split()[:-1] if name == "COPY" else ():
            assert (ROOT / source).exists()
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert kept[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in kept if line.startswith("!"))


def test_memory_is_given_back_everywhere():
    files = (ROOT / "run.sh", DEPLOY / "chatterbox.service", DEPLOY / "Dockerfile")
    told = [
        set(re.findall(r"MALLOC_[A-Z_]+=\d+", path.read_text(encoding="utf-8"))) for path in files
    ]
    assert len(told[0]) == 3
    assert told[0] == told[1] == told[2]


def test_the_composition():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert services.keys() == {"cpu", "gpu"}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN_S
        assert service["ports"][0].startswith("127.0.0.1:")
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        (size,) = re.findall(r"/tmp:size=(\d+)m", service["tmpfs"][0])
        assert int(size) > ServerConfig.model_fields["upload_disk_mb"].default
        assert service["restart"] == "unless-stopped"  # without a limit
        assert {"cpus", "mem_limit", "pids_limit", "tmpfs"} <= service.keys()
        told = service["environment"]
        assert {
            "CHATTERBOX_API_KEYS",
            "CHATTERBOX_ALLOWED_HOSTS",
            "FORWARDED_ALLOW_IPS",
        } <= told.keys()
        assert "*" not in told["CHATTERBOX_ALLOWED_HOSTS"] + told["FORWARDED_ALLOW_IPS"]


@pytest.mark.slow
def test_modals_own_client_takes_the_recipe():
    """Defined, not deployed; in a process of its own, since the client keeps threads."""
    shown = "import runpy; app = runpy.run_path('deploy/modal_app.py')['app']; print(app.name)"
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "chatterbox\n"), done.stderr
