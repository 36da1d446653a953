"""Decodes untrusted files in a guarded child process, which may die of them."""

import logging
import subprocess
import sys
import threading
from contextlib import suppress

from chatterbox.config.sources import environment_for_child
from chatterbox.errors import Draining, UnreadableAudio
from chatterbox.voices import decode_child
from chatterbox.voices.audio_file import decode_audio
from chatterbox.voices.resampler import Decoded

log = logging.getLogger(__name__)

WALL_S = 15.0
"""From request to answer with the usual cap, start of the child included; then it is killed."""
CLOSE_S = 5.0
"""For a killed process to be gone."""

CHILD_PROGRAM = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread of it reserves address space for nothing
sys.path[:] = sys.argv[1:]
from chatterbox.voices.decode_child import main
main()
"""


class AudioDecoder:
    """Untrusted bytes → a recording. This one decodes here: where no child can be bounded
    (Windows), and for files that we shipped."""

    def decode(self, data: bytes, *, max_seconds: float) -> Decoded:
        """Raises what `decode_audio` raises, and Draining after `close`."""
        return decode_audio(data, max_seconds=max_seconds)

    def close(self) -> None:
        """Give back what is held."""


class SandboxedDecoder(AudioDecoder):
    """One child, started at the first file, kept warm between files, replaced when it dies.

    Files are decoded one after the other; callers wait in line.
    """

    def __init__(self, *, program: str = CHILD_PROGRAM, wall_s: float = WALL_S) -> None:
        self._program = program
        self.wall_s = wall_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        child = self._child
        return child.pid if child else None

    def decode(self, data: bytes, *, max_seconds: float) -> Decoded:
        """As AudioDecoder.decode; a child that hangs, dies or talks nonsense is UnreadableAudio."""
        with self._lock:
            try:
                return self._ask(self._running(), data, max_seconds)
            except (decode_child.BrokenChannel, OSError) as failure:
                self._stop()
                if self._closed:
                    raise Draining("The server is shutting down.") from failure
                log.warning("the decode child failed: %s", failure)
                raise UnreadableAudio(
                    "The file looks like audio but decoding it failed; it seems damaged.",
                    param="voice_file",
                ) from failure

    def _ask(self, child: subprocess.Popen[bytes], data: bytes, max_seconds: float) -> Decoded:
        """One question; the child is killed when the answer is not there in time, which ends
        every read and write here."""
        killer = threading.Timer(self.wall_s * decode_child.patience(max_seconds), child.kill)
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
        """End the child; safe while a file is decoded. Whoever waits for it starts no other one."""
        self._closed = True
        child = self._child
        if child:
            child.kill()
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        """The child; a new one where there is none, or where it died since the last file."""
        if self._child and self._child.poll() is not None:
            self._stop()
        if self._child is None and not self._closed:
            self._child = subprocess.Popen(  # noqa: S603 - our own program, no shell
                # -I: neither the caller's directory nor PYTHON* variables choose what it imports.
                [sys.executable, "-I", "-c", self._program, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment_for_child(),
                start_new_session=True,  # Ctrl-C in the server's terminal is not for the child
            )
        if self._child is None or self._closed:  # by who saw no child to kill
            raise OSError("closed")
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):  # what was still to be written has no reader any more
                if pipe:
                    pipe.close()
        child.wait(CLOSE_S)


def guarded_decoder() -> AudioDecoder:
    """The safest decoder that this system allows."""
    return AudioDecoder() if sys.platform == "win32" else SandboxedDecoder()
