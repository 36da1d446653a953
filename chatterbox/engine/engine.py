"""`TTSEngine`, the engine as the server sees it: load, speak, close.

Puts together model, voices, the two loops with their threads, and a pool.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
    rehearse,
    report_failure,
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
from chatterbox.loading import Loading, listening
from chatterbox.runtime.sessions import fitted
from chatterbox.text import CodeBlocks, Segment
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.stores import COPIES, load_in_background, open_store

log = logging.getLogger(__name__)

DATA_ENTRIES = frozenset(
    {"voices", "models", "compiled", "tuned", "consents.json", "lost+found", COPIES}
)
"""What there may be in a data directory of our own."""

State = Literal["loading", "ready", "dead", "closed", "unloaded"]


class TTSEngine:
    """One loaded model, its voices, an engine thread, a decode thread, a pool for voices."""

    def __init__(
        self,
        config: TTSConfig,
        admission: Admission | None = None,
        since: EngineStats | None = None,
    ) -> None:
        """Cheap; `load` does the work. Raises ModelError or ConfigError where a GPU is asked
        for that cannot be used. `admission`: shared with other engines. `since`: what was counted
        before."""
        self.config = config = fitted(config)
        self.voice_store = open_store(config.voices, config.data_dir)
        self.state: State = "loading"
        self.fault: str | None = None
        self.loading = Loading()
        places = config.max_concurrent_requests, config.max_queued_requests
        self.admission = admission or Admission(*places)
        self.pool = ThreadPoolExecutor(config.voice_workers, "recordings")
        self.texts = ThreadPoolExecutor(config.voice_workers + 1, "texts")
        """Reads texts, and voices that are known: recordings keep none of them waiting (F98)."""
        self.on_death: Callable[[], None] | None = None  # once it is dead, from any thread
        self._model_sampling: Mapping[str, float] = {}
        self._counters = Counters(since)
        self._closing = False
        self._preparation: VoicePreparation | None = None

    def load(self, model: LoadedModel | None = None) -> None:
        """Load and start; blocking. Raises ModelError or ConfigError with one line. `model`
        replaces the configured one (tests drive the engine with fakes this way). Closed meanwhile,
        it is closed once it has loaded."""
        owners = WorkerThread("engine"), WorkerThread("decoder")
        try:
            with listening(partial(setattr, self, "loading")):
                self._open(model, owners)
        except BaseException:
            for owner in owners:
                owner.stop()
            raise
        self.state = "ready"
        if self._closing:
            self.close()

    def _open(self, model: LoadedModel | None, owners: tuple[WorkerThread, WorkerThread]) -> None:
        ours, decoders = owners
        with suppress(OSError):  # voices say so, and it is read nevertheless
            make_private_directory(self.config.data_dir, DATA_ENTRIES)
        stored = load_in_background(self.voice_store)
        if self.voice_store.shared:
            stored()  # one that cannot be reached is told before minutes of loading
        watermark = load_watermark(self.config.apply_watermark)
        self.model = model or load_model(
            self.config, log.warning, in_model_thread=ours.call, in_decoder_thread=decoders.call
        )
        family, cloned = self.model.family, self.model.cloned
        self.cloning = cloned.rules.transcript if cloned else None  # are words of recordings used
        self._reader = TextReader(family, self.config)
        self._model_sampling = {**family.sampling, **self.model.sampling}
        self._encoder = WatchedEncoder(cloned, self._lost) if cloned else None
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
        self._owners = owners
        ours.run_forever(lambda: self.generation.run(self._stopped_by))
        decoders.run_forever(lambda: self.vocoding.run(self._stopped_by))

    def rehearse(self) -> None:
        """Speak to nobody, blocking, so that the first listener need not wait for cold memory. What
        one voice's fault may be fails again where somebody hears of it; raises ModelError where a
        voice that came with the program cannot be spoken with."""
        self.loading = Loading("warming")
        try:
            voice = self._voices.get(None)
            self.warm(voice)
            rehearse(self.speak, voice, self.sampling(), self.max_tokens)
        except Exception as fault:  # noqa: BLE001 - one voice's must not keep others from theirs
            if self.state == "ready":  # else it was cut off
                report_failure(fault, self._voices)

    def prepare_voices(self) -> None:
        """Prepare all voices in the background; see VoicePreparation."""
        self._preparation = VoicePreparation(self._voices, self.warm, self._resting)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop: open requests get an error, threads end. Safe to call in any state, twice."""
        self._closing = True  # before the state is looked at, which `load` does the other way round
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
            for owner in self._owners:
                owner.join(max(0.0, until_s - time.monotonic()))
        if self.state in ("closed", "dead"):
            self._voices.close()
        # A graph that runs in a thread while the interpreter goes away aborts the process.
        for pool in pools:
            ended = threading.Thread(target=pool.shutdown, daemon=True)
            ended.start()
            ended.join(max(0.0, until_s - time.monotonic()))
        if self._preparation is not None:
            self._preparation.join(max(0.0, until_s - time.monotonic()))

    def unload(self) -> None:
        """Close, and let go of what takes memory; facts and the list of voices stay known."""
        self.close(60.0)  # a voice that is being encoded is waited for
        if self.state == "closed":
            self._voices.unload()
            self.model = self.model.without_graphs()
            del self.generation, self.vocoding, self._owners, self._reader
            self._encoder = self._preparation = None
            self.state = "unloaded"

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of the threads that must get on, and of the voices being encoded, once there are any."""
        if self.state != "ready":
            return []
        encoding = self._encoder.heartbeats if self._encoder else []
        return [self.generation.heartbeat, self.vocoding.heartbeat, *encoding]

    def give_up(self, reason: str) -> None:
        """The engine is of no use any more: every open request is told, whatever its thread does,
        and no new one is taken."""
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

    def _stopped_by(self, fault: BaseException) -> None:
        """From the thread that ends by it."""
        log.error("the %s stopped on a fault", threading.current_thread().name, exc_info=fault)
        self._lost(fault)

    def _lost(self, fault: BaseException) -> ChatterboxError:
        self.give_up(f"{type(fault).__name__}: {fault}")
        return _dead()

    def _resting(self) -> bool:
        """Whether nobody would be kept waiting by a voice that is prepared now."""
        waiting = self.generation.warming or self.vocoding.warming
        return not (self.admission.active or waiting) and self.generation.idle

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        return self.model.info

    @property
    def voices(self) -> VoiceLibrary:
        """The voices; its methods block, so call them in `pool`. Raises NotReady before they are
        there."""
        self._check_loaded()
        return self._voices

    @property
    def family(self) -> Family:
        """What kind of model is loaded. Raises NotReady before it is."""
        self._check_loaded()
        return self.model.family

    @property
    def max_tokens(self) -> int:
        """Most tokens of one segment. Raises NotReady before the model is loaded."""
        return self.config.max_new_tokens or self.family.max_tokens

    def stats(self) -> EngineStats:
        """A snapshot of the engine's counters."""
        return self._counters.snapshot()

    def sampling(self, wanted: Mapping[str, float | None] = MappingProxyType({})) -> Sampling:
        """What a request wants, else what is configured, else what the model says of itself."""
        return Sampling.merge(wanted, self.config.sampling(), self._model_sampling)

    def warm(self, voice: Voice) -> None:
        """Prepare language model and decoder for a voice before its first request."""
        self.generation.warm(self.model.prompts.prefix(voice))
        self.vocoding.warm(voice)

    def segments(self, text: str, code_blocks: CodeBlocks | None = None) -> list[Segment]:
        """What `text` is spoken as; see `TextReader.segments`. A long text takes a while."""
        return self._reader.segments(text, code_blocks)

    def speak(
        self, request: SpeechRequest, segments: Sequence[Segment] | None = None
    ) -> SpeechStream:
        """The sound of `request`; see SpeechStream. `segments`: of its text, where they are known.
        Raises, before any work: NotReady, EngineDead, Draining, InvalidValue, and what `segments`
        does."""
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
        """A listener has left or caught up."""
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
