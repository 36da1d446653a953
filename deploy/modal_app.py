"""The server on Modal, with a GPU that is paid for only while somebody speaks.

modal deploy deploy/modal_app.py        (in the project's directory; docs/run/modal.md)
"""

import subprocess

import modal

PORT, DATA, MINUTES = 8000, "/data", 60
PLACES, WAITING = 48, 96
"""max_concurrent_requests and max_queued_requests of a card with 48 GB (docs/run/sizing.md)."""

image = modal.Image.from_dockerfile(
    "deploy/Dockerfile",
    context_dir=".",
    build_args={"GPU": "1"},
    env={"CHATTERBOX_DATA_DIR": f"{DATA}/server", "CHATTERBOX_DEVICE": "cuda"},
).entrypoint([])
app = modal.App("chatterbox", image=image)


@app.function(
    gpu="L40S",
    volumes={DATA: modal.Volume.from_name("chatterbox", create_if_missing=True)},
    secrets=[modal.Secret.from_name("chatterbox", required_keys=["CHATTERBOX_API_KEYS"])],
    scaledown_window=5 * MINUTES,
    timeout=10 * MINUTES,  # of one answer, or of one socket
    max_containers=1,  # each has voices of its own, unless CHATTERBOX_VOICES names a bucket
)
@modal.concurrent(max_inputs=PLACES + WAITING + 32, target_inputs=PLACES)
@modal.web_server(PORT, startup_timeout=30 * MINUTES)
def serve() -> None:
    """Starts the server; Modal passes HTTP and WebSockets on to its port."""
    subprocess.Popen(["python", "-P", "-m", "chatterbox", "serve"])  # noqa: S607 - the image's
