"""Settings of the model, the engine and the voices, with their bounds."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from chatterbox.config.sources import Settings
from chatterbox.errors import ConfigError

PrecisionSetting = Literal["auto", "fp32", "fp16", "q8", "q4", "q4f16"]

Temperature = Annotated[float, Field(ge=0.0, le=5.0)]
TopK = Annotated[int, Field(ge=0, le=1_000_000)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
MinP = Annotated[float, Field(ge=0.0, le=1.0)]
RepetitionPenalty = Annotated[float, Field(ge=0.5, le=5.0)]
PenaltyWindow = Annotated[int, Field(ge=0, le=65536)]
MaxNewTokens = Annotated[int, Field(ge=8, le=8192)]
SAMPLING = {
    "temperature": Temperature,
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
    "repetition_penalty": RepetitionPenalty,
    "penalty_window": PenaltyWindow,
}
"""Sampling parameters and their bounds, in settings, requests and `generation_config.json`."""


def default_data_dir() -> Path:
    """Return `$XDG_DATA_HOME/chatterbox`, or `~/.local/share/chatterbox` if that is not set."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "chatterbox"


class TTSConfig(Settings):
    """Settings of the model, the engine and the voices."""

    # --- model
    model: str = "auto"
    """Model to serve: auto, mini, turbo, orpheus, a hub id, or a directory in the hub's layout;
    auto is Turbo if available, otherwise mini"""
    model_revision: str | None = None
    """Revision of a hub model; unset is the tested revision of known models and `main` of others"""
    model_dtype: PrecisionSetting = "auto"
    """Precision of all graphs; more bits take more memory and time; auto suits the model and device
    (Turbo: fp16 on CUDA with an fp32 decoder in TF32, q4 on a CPU)"""
    speech_encoder_dtype: PrecisionSetting | None = None
    """Precision of the speech encoder, which encodes voices; unset follows `model_dtype`"""
    embed_tokens_dtype: PrecisionSetting | None = None
    """Precision of Turbo's token embedding; unset follows `model_dtype`"""
    language_model_dtype: PrecisionSetting | None = None
    """Precision of the language model; unset follows `model_dtype`"""
    conditional_decoder_dtype: PrecisionSetting | None = None
    """Precision of the decoder, which turns speech tokens into audio; unset follows
    `model_dtype`"""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Directory for voices, caches and downloaded models"""

    # --- device
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to run on; auto is CUDA if it works, otherwise the CPU"""
    gpu_device_id: int = Field(0, ge=0, le=63)
    """Index of the GPU"""
    decoder_device_id: int | None = Field(None, ge=0, le=63)
    """Index of the GPU that runs the decoder; unset is the same GPU; a second GPU lets both work at
    once"""
    gpu_mem_limit_gb: float | None = Field(None, gt=0, le=1024)
    """Memory limit of ONNX Runtime's GPU arena; more leaves less for other programs; unset means no
    limit"""
    cudnn_conv_algo_search: Literal["HEURISTIC", "EXHAUSTIVE", "DEFAULT"] = "HEURISTIC"
    """How cuDNN chooses convolution algorithms; EXHAUSTIVE takes about 0.6 s for each new shape"""
    cudnn_conv_use_max_workspace: bool = True
    """Let cuDNN use as much workspace memory as its fastest algorithms need"""
    cudnn_conv1d_pad_to_nc1d: bool = False
    """Pad 1-D convolutions to [N, C, 1, D] instead of [N, C, D, 1]"""
    arena_extend_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = "kSameAsRequested"
    """How the GPU arena grows; kNextPowerOfTwo allocates less often and wastes more memory"""
    use_tf32: bool = True
    """Compute matrix products of fp32 graphs in TF32; faster, with less precision"""
    prefer_nhwc: bool = False
    """Run convolutions on CUDA in the NHWC layout"""
    sdpa_kernel: int = Field(3, ge=0, le=255)
    """Attention kernels on CUDA, as a sum of 1 (flash), 2 (memory-efficient) and 8 (cuDNN); 0 lets
    ONNX Runtime choose, which on an H100 re-plans for each length of text"""
    threads: int = Field(0, ge=0, le=256)
    """CPU threads of each ONNX Runtime session; 0 is the number of cores of this process, or 1 on a
    GPU"""

    # --- graphs
    compile_lm: bool = True
    """Convert the language model to a faster form at the first start, and use it if its results are
    equal; false serves the published graph, which is slower"""
    kv_dtype: Literal["auto", "float", "int8"] = "auto"
    """Precision of the key-value cache; auto is int8 for quantised models on a CPU, once proven
    equal; int8 takes half the memory of float or less"""
    cuda_graphs: bool = True
    """Replay captured CUDA graphs of steps and windows; false launches each kernel"""
    max_sequence_length: int = Field(2048, ge=512, le=8196)
    """Maximum number of voice, text and speech tokens in one sequence; more takes memory for each
    of `max_sequences` and allows longer segments"""
    kv_prefix_cache_mb: int = Field(1024, ge=0, le=1_000_000)
    """Memory for the cached language-model state of voices; more lets more voices start without
    being computed again; on a GPU the default depends on its memory"""
    decoder_prompt_s: float = Field(3.0, ge=1.0, le=10.0)
    """Seconds of the reference recording that the decoder imitates; more takes time in every window
    and memory for every voice"""
    decoder_prompt_cache_mb: int = Field(320, ge=0, le=1_000_000)
    """On a CPU: memory for decoded voice prompts (35 MB per voice at 3 s); more keeps more voices
    fast; 0 decodes the prompt in every window"""
    decoder_int8: bool = True
    """On a CPU: compute the decoder in 8 bits where the result is close enough; false is exact and
    slower"""

    codec_rows: int = Field(64, ge=1, le=1024)
    """Orpheus on a GPU: maximum number of windows of different requests in one codec call; more
    raises throughput and delays each first audio"""
    decoder_gather_ms: float = Field(3.0, ge=0.0, le=100.0)
    """On a GPU: how long a window waits for windows of other requests to share its call; more fills
    calls better and delays all audio by as much"""

    # --- engine
    max_concurrent_requests: int = Field(8, ge=1, le=1024)
    """Maximum number of requests synthesised at once; more raises throughput until the processor is
    busy, and slows each request; on a GPU the default depends on its memory"""
    max_queued_requests: int = Field(32, ge=0, le=65536)
    """Maximum number of requests waiting for a place; more lets requests wait instead of answering
    429; on a GPU the default depends on its memory"""
    max_sequences: int = Field(16, ge=1, le=1024)
    """Maximum number of segments in one batch of the language model; more raises throughput, takes
    memory and slows each step; on a GPU the default depends on its memory"""
    voice_workers: int = Field(2, ge=1, le=64)
    """Threads that decode recordings and encode voices; more registers voices faster and leaves
    fewer cores for speech"""
    max_new_tokens: MaxNewTokens | None = None
    """Maximum number of speech tokens in one segment; more allows longer segments and lets runaway
    speech last longer; unset suits the model (Turbo: 1024, at 25 per second)"""
    temperature: Temperature | None = None
    """Randomness of sampling; higher varies more and makes more errors; 0 always picks the
    likeliest token; unset is the model's default"""
    top_k: TopK | None = None
    """Sample from this many of the likeliest tokens; higher varies more; 0 samples from all; unset
    is the model's default"""
    top_p: TopP | None = None
    """Sample from the likeliest tokens up to this total probability; higher varies more; 1 samples
    from all; unset is the model's default"""
    min_p: MinP | None = None
    """Drop tokens less likely than this share of the likeliest token; higher varies less; 0 drops
    none; unset is the model's default"""
    repetition_penalty: RepetitionPenalty | None = None
    """Penalty for tokens that occurred before; higher repeats less; 1 disables it; unset is the
    model's default"""
    penalty_window: PenaltyWindow | None = None
    """How many past tokens the repetition penalty covers; more repeats less; 0 covers all; unset is
    the model's default"""
    runaway_guard: bool = True
    """Detect loops, endless speech and silence, and retry the segment; false lets a segment run up
    to `max_new_tokens`"""
    model_voices: str = ""
    """Orpheus: voice names that a fine-tuned model was trained with, comma-separated, default voice
    first; empty uses the voices of the original release for the model's language"""
    prompt_form: Literal["trained", "package"] = "trained"
    """Orpheus: form of the prompt; trained is as in the training data; package is as the authors'
    package sends it, with a second begin-of-text token"""
    max_inflight_segments: int = Field(3, ge=1, le=64)
    """Maximum number of segments of one request in progress at once; more finishes long texts
    sooner and leaves less for other requests"""

    # --- text
    first_segment_words: int | None = Field(None, ge=1, le=1000)
    """Maximum number of words in the first segment; more sounds smoother and starts later; unset,
    here and in the next three, suits the model (Turbo: 40, 140, 12 and 280)"""
    next_segment_words: int | None = Field(None, ge=1, le=1000)
    """Maximum number of words in each later segment; more sounds smoother and needs longer
    sequences"""
    tail_segment_words: int | None = Field(None, ge=0, le=1000)
    """Join a last segment with fewer words than this to the segment before it; more joins more
    often"""
    max_segment_chars: int | None = Field(None, ge=40, le=1000)
    """Maximum number of characters in any segment; more risks errors of the model in long
    segments"""
    code_blocks: Literal["skip", "speak"] = "skip"
    """What to do with fenced code in Markdown; skip replaces it with a short pause; speak reads it
    out"""
    segment_pause_ms: int = Field(120, ge=0, le=5000)
    """Silence between segments; more sounds slower"""

    # --- voices
    voices: str | None = Field(None, repr=False)
    """Shared storage of voices for several servers, a folder or an address such as
    `s3://bucket/prefix`; unset keeps voices in the data directory, for this server alone"""
    default_voice: str | None = None
    """Voice of requests that name none; unset is the model's own default, or slt"""
    voice_cache_size: int = Field(100, ge=1, le=100_000)
    """Maximum number of encoded voices cached in memory; more avoids reading voices from disk"""
    voice_cache_mb: int = Field(512, ge=1, le=1_000_000)
    """Memory limit of the voice cache; more caches more voices"""
    max_reference_s: float = Field(300, ge=5, le=3600)
    """Longest accepted recording of a voice; more takes time and memory at registration"""
    max_voices: int = Field(10_000, ge=1, le=1_000_000)
    """Maximum number of stored voices; beyond that, registering a voice gets 507; more takes disk
    space"""
    apply_watermark: bool = False
    """Add an inaudible watermark to all audio; requires the package resemble-perth"""

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def sampling(self) -> dict[str, float | None]:
        """Return the sampling parameters; None where the setting is unset."""
        return {name: getattr(self, name) for name in SAMPLING}

    def segments(self) -> dict[str, int]:
        """Return the segment sizes that are set, by field name of `SegmentLimits`."""
        sizes = {
            "first_words": self.first_segment_words,
            "next_words": self.next_segment_words,
            "tail_words": self.tail_segment_words,
            "max_chars": self.max_segment_chars,
        }
        return {name: size for name, size in sizes.items() if size is not None}


def configs_of(config: TTSConfig, models: str) -> dict[str, TTSConfig]:
    """Return the settings of each model by name, the default model first. A single model has the
    name "". `models` is the setting of that name.

    Raises ConfigError if two models have the same name, or if several share a revision.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    if "model" in config.model_fields_set or not names:
        names.insert(0, config.model)
    names = list(dict.fromkeys(names))
    if len(names) > 1 and config.model_revision:
        raise ConfigError(
            "CHATTERBOX_MODEL_REVISION applies to one model, but CHATTERBOX_MODELS lists several"
        )
    configs: dict[str, TTSConfig] = {}
    for model in names:
        path = Path(model).expanduser()
        name = path.resolve().name if path.is_dir() else model
        if name.casefold() in map(str.casefold, configs):
            raise ConfigError(f"CHATTERBOX_MODELS: two models are called {name}")
        configs[name] = config.model_copy(update={"model": model})
    return configs if len(configs) > 1 else {"": configs.popitem()[1]}
