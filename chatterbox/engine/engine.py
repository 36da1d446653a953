"""`TTSEngine`, the engine's interface to the server: load, speak, close.

It connects the model, the voices, the two loops and their threads, and the pools.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Literal

from chatterbox.audio.shaping import load_watermark
from chatterbox.config import TTSConfig
from chatterbox.engine.admission import Admission
from chatterbox.engine.fairness import FairScheduler
from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.preparation import (
    TextReader,
    VoicePreparation,
    WatchedEncoder,
    report_failure,
    speak_and_drop,
)
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechRequest, SpeechStream
from chatterbox.engine.stats import Counters, EngineStats
from chatterbox.engine.threads import CpuLock, Heartbeat, WorkerThread
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.engine.windows import WindowSettings
from chatterbox.errors import ChatterboxError, Draining, EngineDead, InvalidValue, NotReady
from chatterbox.families.base import Family, Voice
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel, ModelInfo
from chatterbox.hardening import make_private_directory
from chatterbox.loading import Loading, listening, run_in_thread
from chatterbox.runtime.sessions import fitted
from chatterbox.text import CodeBlocks, Segment
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.stores import COPIES, load_store, open_store

log = logging.getLogger(__name__)

DATA_ENTRIES = frozenset(
    {"voices", "models", "compiled", "tuned", "consents.json", "lost+found", COPIES}
)
"""Entries by which a data directory is recognised as the server's own."""

State = Literal["loading", "ready", "dead", "closed", "unloaded"]


class TTSEngine:
    """One model with its voices, its two loops and their threads, and pools of threads."""

    def __init__(
        self,
        config: TTSConfig,
        admission: Admission | None = None,
        since: EngineStats | None = None,
    ) -> None:
        """`admission`: shared with other engines; None: a new one. `since`: earlier counts to add.
        Raises ModelError or ConfigError if the configured GPU cannot be used. `load` does the rest.
        """
        self.config = config = fitted(config)
        self.voice_store = open_store(config.voices, config.data_dir)
        self.state: State = "loading"
        self.fault: str | None = None
        self.loading = Loading()
        places = config.max_concurrent_requests, config.max_queued_requests
        self.admission = admission or Admission(*places)
        self.pool = ThreadPoolExecutor(config.voice_workers, "recordings")
        self.texts = ThreadPoolExecutor(config.voice_workers + 1, "texts")
        """Reads texts and stored voices, so that no recording delays them (F98)."""
        self.on_death: Callable[[], None] | None = (
            None  # called from any thread when the engine dies
        )
        self._model_sampling: Mapping[str, float] = {}
        self._counters = Counters(since)
        self._closing = False
        self._preparation: VoicePreparation | None = None

    def load(self, model: LoadedModel | None = None) -> None:
        """Load the model and start the threads; blocks. `model` replaces the configured one, in
        tests. If `close` is called meanwhile, the engine is closed after loading. Raises ModelError
        or ConfigError with a message of one line."""
        threads = WorkerThread("engine"), WorkerThread("decoder")
        try:
            with listening(partial(setattr, self, "loading")):
                self._open(model, threads)
        except BaseException:
            for thread in threads:
                thread.stop()
            raise
        self.state = "ready"
        if self._closing:
            self.close()

    def _open(self, model: LoadedModel | None, threads: tuple[WorkerThread, WorkerThread]) -> None:
        generating, vocoding = threads
        with suppress(OSError):  # the voice store reports it
            make_private_directory(self.config.data_dir, DATA_ENTRIES)
        stored = run_in_thread(partial(load_store, self.voice_store)).result
        if self.voice_store.shared:
            stored()  # raises before minutes of loading if the store cannot be reached
        watermark = load_watermark(self.config.apply_watermark)
        self.model = model or load_model(
            self.config,
            log.warning,
            in_model_thread=generating.call,
            in_decoder_thread=vocoding.call,
        )
        family, cloned = self.model.family, self.model.cloned
        self.cloning = cloned.rules.transcript if cloned else None  # whether transcripts are used
        self._reader = TextReader(family, self.config)
        self._model_sampling = {**family.sampling, **self.model.sampling}
        self._encoder = WatchedEncoder(cloned, self._fail) if cloned else None
        self._voices = VoiceLibrary(
            self.voice_store,
            cloned=cloned,
            fixed=self.model.fixed,
            encode=self._encoder,
            cache_size=self.config.voice_cache_size,
            cache_bytes=self.config.voice_cache_mb * 1024 * 1024,
            max_seconds=self.config.max_reference_s,
            default_voice=self.config.default_voice,
            max_voices=self.config.max_voices,
        )
        self._voices.start(stored)
        cpu = CpuLock(shared=self.info.device == "cpu")
        fairness = FairScheduler(shared=cpu.shared)
        self.vocoding = VocodingLoop(
            self.model.decoder,
            WindowSettings.of(self.model.decoder.codec, self.model.decoder.window_frames),
            self._counters,
            watermark,
            cpu,
            self.model.loudest_rms,
            fairness=fairness,
            gather_s=self.config.decoder_gather_ms / 1000,
        )
        self.generation = GenerationLoop(
            self.model.language_model,
            self.vocoding,
            self._counters,
            family,
            cpu=cpu,
            fairness=fairness,
            guarded=self.config.runaway_guard,
        )
        self._threads = threads
        generating.run_forever(lambda: self.generation.run(self._on_fault))
        vocoding.run_forever(lambda: self.vocoding.run(self._on_fault))

    def warm_up(self) -> None:
        """Speak a sentence and drop it, so that the first request is fast; blocks. Raises
        ModelError if a built-in voice fails; faults of other voices are logged."""
        self.loading = Loading("warming")
        try:
            voice = self._voices.get(None)
            self.warm(voice)
            speak_and_drop(self.speak, voice, self.sampling(), self.max_tokens)
        except Exception as fault:  # noqa: BLE001 - other voices may work
            if self.state == "ready":  # else closing caused it
                report_failure(fault, self._voices)

    def prepare_voices(self) -> None:
        """Prepare all voices in the background; see VoicePreparation."""
        self._preparation = VoicePreparation(self._voices, self.warm, self._can_prepare)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop: open requests get an error, threads end. May be called in any state, repeatedly."""
        self._closing = True  # before reading the state: `load` sets it, then reads this
        until_s = time.monotonic() + timeout_s
        pools = self.pool, self.texts
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        if self._preparation is not None:
            self._preparation.stop()
        if self.state == "ready":
            self.state = "closed"
            self.generation.close()
            self.vocoding.close(EngineDead("The engine has been stopped."))
            for thread in self._threads:
                thread.join(max(0.0, until_s - time.monotonic()))
        if self.state in ("closed", "dead"):
            self._voices.close()
        # A graph that runs in a thread while the interpreter exits aborts the process.
        for pool in pools:
            waiting = threading.Thread(target=pool.shutdown, daemon=True)
            waiting.start()
            waiting.join(max(0.0, until_s - time.monotonic()))
        if self._preparation is not None:
            self._preparation.join(max(0.0, until_s - time.monotonic()))

    def unload(self) -> None:
        """Close and free the memory. `info` and the list of voices stay available."""
        self.close(60.0)  # waits for a voice that is being encoded
        if self.state == "closed":
            self._voices.unload()
            self.model = self.model.without_graphs()
            del self.generation, self.vocoding, self._threads, self._reader
            self._encoder = self._preparation = None
            self.state = "unloaded"

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Heartbeats of both loops and of each voice being encoded; empty unless ready."""
        if self.state != "ready":
            return []
        encoding = self._encoder.heartbeats if self._encoder else []
        return [self.generation.heartbeat, self.vocoding.heartbeat, *encoding]

    def give_up(self, reason: str) -> None:
        """Declare the engine dead: end every open request with an error, even if a thread hangs,
        and refuse new ones. `reason`: shown to the operator."""
        if self.state != "ready":
            return
        self.state = "dead"
        self.fault = reason
        if self._preparation is not None:
            self._preparation.stop()
        self.generation.give_up(_dead())
        self.vocoding.give_up(_dead())
        if self.on_death is not None:
            self.on_death()

    def _on_fault(self, fault: BaseException) -> None:
        """Called by a loop's thread when a fault ends it."""
        log.error("the %s stopped on a fault", threading.current_thread().name, exc_info=fault)
        self._fail(fault)

    def _fail(self, fault: BaseException) -> ChatterboxError:
        self.give_up(f"{type(fault).__name__}: {fault}")
        return _dead()

    def _can_prepare(self) -> bool:
        """Whether a voice can be prepared now without delaying a request."""
        waiting = self.generation.warming or self.vocoding.warming
        return not (self.admission.active or waiting) and self.generation.idle

    @property
    def info(self) -> ModelInfo:
        """Facts about the model."""
        return self.model.info

    @property
    def voices(self) -> VoiceLibrary:
        """The voices. Their methods block: call them in `pool`. Raises NotReady while loading."""
        self._check_loaded()
        return self._voices

    @property
    def family(self) -> Family:
        """The family of the model. Raises NotReady while loading."""
        self._check_loaded()
        return self.model.family

    @property
    def max_tokens(self) -> int:
        """Most tokens of a segment. Raises NotReady while loading."""
        return self.config.max_new_tokens or self.family.max_tokens

    def stats(self) -> EngineStats:
        """Return the sums of the engine's counters."""
        return self._counters.snapshot()

    def sampling(self, wanted: Mapping[str, float | None] = MappingProxyType({})) -> Sampling:
        """Merge a request's parameters with the settings and the model's defaults."""
        return Sampling.merge(wanted, self.config.sampling(), self._model_sampling)

    def warm(self, voice: Voice) -> None:
        """Prepare language model and decoder for a voice before its first request."""
        self.generation.warm(self.model.prompts.prefix(voice))
        self.vocoding.warm(voice)

    def segments(self, text: str, code_blocks: CodeBlocks | None = None) -> list[Segment]:
        """Split `text` into segments; see `TextReader.segments`. Slow for long texts."""
        return self._reader.segments(text, code_blocks)

    def speak(self, request: SpeechRequest, segments: list[Segment] | None = None) -> SpeechStream:
        """Return the speech of `request`. `segments`: those of its text, if already split. Raises
        NotReady, EngineDead, Draining, InvalidValue, and the errors of `segments`."""
        self._check_ready()
        ceiling = self.max_tokens
        if request.max_new_tokens is not None and request.max_new_tokens > ceiling:
            raise InvalidValue(f"max_new_tokens is at most {ceiling} here.", param="max_new_tokens")
        return SpeechStream(
            request,
            self.segments(request.text) if segments is None else segments,
            prompts=self.model.prompts,
            submit=self.generation.submit,
            wake=self._wake,
            ceiling_codes=ceiling,
            positions=self.model.language_model.capacity,
            max_inflight_segments=self.config.max_inflight_segments,
            pause_s=self.config.segment_pause_ms / 1000,
        )

    def _wake(self) -> None:
        """Wake both loops after a reader left or caught up."""
        self.generation.wake()
        self.vocoding.wake()

    def _check_loaded(self) -> None:
        if self.state == "loading":
            raise NotReady("The model is still loading.", retry_after_s=1)

    def _check_ready(self) -> None:
        self._check_loaded()
        if self.state == "dead":
            raise _dead()
        if self.state == "closed":
            raise Draining("The server is shutting down.", retry_after_s=1)


def _dead() -> ChatterboxError:
    return EngineDead("The engine stopped on a fault and is restarting.", retry_after_s=5)
