"""Decodes untrusted files in a sandboxed child process, which a hostile file may crash."""

import logging
import subprocess
import sys
import threading
from contextlib import suppress

from chatterbox.config.sources import environment_for_child
from chatterbox.errors import Draining, UnreadableAudio
from chatterbox.voices import decode_child
from chatterbox.voices.audio_file import decode_audio
from chatterbox.voices.recording import Recording

log = logging.getLogger(__name__)

WALL_S = 15.0
"""Time limit for a file of up to DEFAULT_MAX_S, including the start of the child; then the child is
killed."""
CLOSE_S = 5.0
"""Longest wait for a killed process to exit."""

CHILD_PROGRAM = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread would reserve address space
sys.path[:] = sys.argv[1:]
from chatterbox.voices.decode_child import main
main()
"""


class AudioDecoder:
    """Decodes in this process. Used on Windows, which has no limits for a child process."""

    def decode(self, data: bytes, *, max_seconds: float) -> Recording:
        """Decode a file. Raises the errors of `decode_audio`, and Draining after `close`."""
        return decode_audio(data, max_seconds=max_seconds)

    def close(self) -> None:
        """Release the decoder's resources."""


class SandboxedDecoder(AudioDecoder):
    """Decodes in a child process, one file at a time. The first file starts the child; a child that
    has died is replaced."""

    def __init__(self, *, program: str = CHILD_PROGRAM, wall_s: float = WALL_S) -> None:
        self._program = program
        self.wall_s = wall_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child; None if there is no child."""
        child = self._child
        return child.pid if child else None

    def decode(self, data: bytes, *, max_seconds: float) -> Recording:
        """Decode a file in the child. Also raises UnreadableAudio if the child hangs, dies or sends
        an invalid answer."""
        with self._lock:
            try:
                return self._exchange(self._running(), data, max_seconds)
            except (decode_child.BrokenChannel, OSError) as failure:
                self._stop()
                if self._closed:
                    raise Draining("The server is shutting down.") from failure
                log.warning("the decode child failed: %s", failure)
                raise UnreadableAudio(
                    "The file looks like audio but cannot be decoded; it seems damaged."
                ) from failure

    def _exchange(
        self, child: subprocess.Popen[bytes], data: bytes, max_seconds: float
    ) -> Recording:
        """Send a file and receive the answer. After a timeout, kills the child, which makes the
        reads and writes fail."""
        killer = threading.Timer(self.wall_s * decode_child.time_factor(max_seconds), child.kill)
        killer.daemon = True
        killer.start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            decode_child.write_request(child.stdin, data, max_seconds)
            return decode_child.read_answer(child.stdout, max_seconds)
        finally:
            killer.cancel()

    def close(self) -> None:
        """Kill the child, even while it decodes a file. Waiting callers get Draining."""
        self._closed = True
        child = self._child
        if child:
            child.kill()
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the child, started if there is none or it has died. Raises OSError after
        `close`."""
        if self._child and self._child.poll() is not None:
            self._stop()
        if self._child is None and not self._closed:
            self._child = subprocess.Popen(  # noqa: S603 - our own program, no shell
                # -I: imports depend neither on the current directory nor on PYTHON* variables.
                [sys.executable, "-I", "-c", self._program, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment_for_child(),
                start_new_session=True,  # so that Ctrl-C in the server's terminal does not reach it
            )
        if self._child is None or self._closed:  # `close` may have run before the child existed
            raise OSError("closed")
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):  # unsent data cannot be flushed to a dead process
                if pipe:
                    pipe.close()
        child.wait(CLOSE_S)


def guarded_decoder() -> AudioDecoder:
    """Return a sandboxed decoder if this system supports one."""
    return AudioDecoder() if sys.platform == "win32" else SandboxedDecoder()
