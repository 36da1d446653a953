"""deploy/kubernetes: the published schemas, and what docs/run/kubernetes.md promises.

The overlays are built by kubectl where it is installed.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from chatterbox.config import CONFIGS, ServerConfig, load
from chatterbox.config.server import RAY_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSION = "1.32"
BY_OPERATORS = {"ScaledObject", "ServiceMonitor", "RayService"}
"""Kinds that are not Kubernetes' own: their schemas are in no package."""
SETTINGS = {name for config in CONFIGS for name in config.model_fields}
SOUND_S = 300
"""Of the longest text, as it is listened to."""

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which builds overlays, is not installed"
)


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def built(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def check(document: dict[str, Any]) -> None:
    if document["kind"] not in BY_OPERATORS:
        kubernetes_validate.validate(document, VERSION, strict=True)


MANIFESTS = [
    path
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    if path.name not in ("kustomization.yaml", "images.yaml")
]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_keeps_its_schema(path):
    for document in documents(path.read_text(encoding="utf-8")):
        assert {"apiVersion", "kind", "metadata", "spec"} == document.keys()
        check(document)


def test_a_wrong_field_is_found():
    document = documents((KUBERNETES / "base" / "disruption.yaml").read_text(encoding="utf-8"))[0]
    document["spec"]["maxUnavailble"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        check(document)


@pytest.fixture
def pod() -> dict[str, Any]:
    server = yaml.safe_load((KUBERNETES / "base" / "server.yaml").read_text(encoding="utf-8"))
    return server["spec"]["template"]["spec"]


def told(pod: dict[str, Any]) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}


def test_no_answer_is_cut_by_an_update(pod):
    drain_s = float(told(pod)["CHATTERBOX_DRAIN_TIMEOUT_S"])
    settings = ServerConfig.model_fields
    assert drain_s >= settings["request_timeout_s"].default + SOUND_S
    (_, waited_s) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    readiness = pod["containers"][0]["readinessProbe"]
    assert float(waited_s) > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] >= float(waited_s) + drain_s + 5


def test_the_servers_settings_are_accepted(pod):
    values = {
        name.removeprefix("CHATTERBOX_").lower(): value.replace("$(NAMESPACE)", "speech")
        for name, value in told(pod).items()
        if value is not None and name.startswith("CHATTERBOX_")
    }
    assert len(values) >= 4
    assert values.keys() <= SETTINGS
    for config in CONFIGS:
        load(config, values)


def test_probes_ask_what_they_mean(pod):
    server = pod["containers"][0]
    paths = {
        name: server[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "readiness", "liveness")
    }
    assert paths == {
        "startup": "/health/ready",
        "readiness": "/health/ready",
        "liveness": "/health/live",
    }
    assert (
        server["startupProbe"]["failureThreshold"] * server["startupProbe"]["periodSeconds"] == 1800
    )


def test_a_service_of_that_name_sets_no_port(pod):
    """Kubernetes would: CHATTERBOX_PORT=tcp://10.0.0.1:8000."""
    assert pod["enableServiceLinks"] is False
    ray = yaml.safe_load((KUBERNETES / "ray" / "ray-service.yaml").read_text(encoding="utf-8"))
    cluster = ray["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["enableServiceLinks"] is False


def test_the_pod_can_do_little(pod):
    server = pod["containers"][0]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert server["securityContext"]["readOnlyRootFilesystem"]
    assert server["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert told(pod)["CHATTERBOX_API_KEYS"] is None  # of a Secret
    names = told(pod)["CHATTERBOX_ALLOWED_HOSTS"].split(",")
    assert names[0] == "chatterbox"
    assert "*" not in names
    (uploads,) = [volume["emptyDir"] for volume in pod["volumes"]]
    megabytes = int(uploads["sizeLimit"].removesuffix("Mi"))
    assert megabytes > ServerConfig.model_fields["upload_disk_mb"].default


def test_scaling_counts_what_the_server_counts():
    scaled = (KUBERNETES / "components" / "autoscaling" / "scaled-object.yaml").read_text()
    metrics = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"chatterbox_\w+", scaled))
    assert named == {"chatterbox_active_requests", "chatterbox_queued_requests"}
    assert all(f"`{name}`" in metrics for name in named)


def test_the_ray_service_deploys_what_the_serve_config_does():
    ray = yaml.safe_load((KUBERNETES / "ray" / "ray-service.yaml").read_text(encoding="utf-8"))
    serve = yaml.safe_load((ROOT / "deploy" / "serve_config.yaml").read_text(encoding="utf-8"))
    ours = yaml.safe_load(ray["spec"]["serveConfigV2"])
    assert ours.pop("applications")[0].keys() == serve["applications"][0].keys()
    applications = serve.pop("applications")
    assert ours == serve
    application = yaml.safe_load(ray["spec"]["serveConfigV2"])["applications"][0]
    assert application["import_path"] == applications[0]["import_path"]
    assert application["args"].keys() <= SETTINGS
    cluster = ray["spec"]["rayClusterConfig"]
    version = re.search(r"ray\[serve\]==(\S+)", (ROOT / "requirements-cluster.txt").read_text())[1]
    assert cluster["rayVersion"] == version
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["maxReplicas"] == application["args"]["max_replicas"]
    assert cluster["authOptions"]["mode"] == RAY_ENVIRONMENT["RAY_AUTH_MODE"]
    for group in (cluster["headGroupSpec"], workers):
        variables = told(group["template"]["spec"]) | {"RAY_AUTH_MODE": "token"}
        assert RAY_ENVIRONMENT.items() <= variables.items()


@needs_kubectl
@pytest.mark.parametrize("name", ["cpu", "gpu", "ray"])
def test_overlays_build(name):
    documents = built(KUBERNETES / name)
    for document in documents:
        check(document)
    images = re.findall(r"'image': '(.*?)'", str(documents))
    assert set(images) == {f"chatterbox:{name}"}
    if name == "gpu":
        (server,) = [each for each in documents if each["kind"] == "StatefulSet"]
        pod = server["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert told(pod)["CHATTERBOX_DEVICE"] == "cuda"
        assert told(pod)["CHATTERBOX_DATA_DIR"]  # what the base says stays


@needs_kubectl
@pytest.mark.slow
@pytest.mark.parametrize("voices", ["shared-voices", "bucket-voices"])
def test_components_fit_the_base(voices, tmp_path):
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    overlay = copy / "gpu" / "kustomization.yaml"
    wanted = (
        f"components: [../components/{voices}, ../components/autoscaling, ../components/monitoring]"
    )
    changed, times = re.subn(r"# components: .*", wanted, overlay.read_text(encoding="utf-8"))
    assert times == 1
    overlay.write_text(changed, encoding="utf-8")
    documents = built(overlay.parent)
    for document in documents:
        check(document)
    kinds = {document["kind"] for document in documents}
    assert {"StatefulSet", "ScaledObject", "ServiceMonitor", "PodDisruptionBudget"} <= kinds
    (server,) = [each for each in documents if each["kind"] == "StatefulSet"]
    pod = server["spec"]["template"]["spec"]
    bucket = pod["containers"][0].get("envFrom", [])
    assert ("CHATTERBOX_VOICES" in told(pod)) != bool(bucket)
    mounted = {each["name"] for each in pod["containers"][0]["volumeMounts"]}
    kept = {each["name"] for each in pod["volumes"]} | {"data"}
    assert mounted == kept
