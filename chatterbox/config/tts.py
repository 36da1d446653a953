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
"""The sampling parameters and their bounds: of the settings, of a call, and of what a model may
say of itself in `generation_config.json`."""


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/chatterbox`, else `~/.local/share/chatterbox`."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "chatterbox"


class TTSConfig(Settings):
    """Model, engine and voices."""

    # --- model
    model: str = "auto"
    """auto | mini | turbo | orpheus | a hub id | a directory in hub layout; auto: Turbo where it
    can be had, else mini"""
    model_revision: str | None = None
    """Revision of a hub model; none: the tested one of those known here, `main` of others"""
    model_dtype: PrecisionSetting = "auto"
    """Precision of all graphs; more bits take more memory and time; auto: as suits model and device
    (Turbo: fp16 on CUDA, its decoder fp32 in TF32; q4 on a CPU)"""
    speech_encoder_dtype: PrecisionSetting | None = None
    """Precision of what encodes voices alone"""
    embed_tokens_dtype: PrecisionSetting | None = None
    """Precision of Turbo's embedding alone"""
    language_model_dtype: PrecisionSetting | None = None
    """Precision of the language model alone"""
    conditional_decoder_dtype: PrecisionSetting | None = None
    """Precision of what decodes speech tokens alone"""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Voices, caches and downloaded models"""

    # --- device
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where it works, else the CPU"""
    gpu_device_id: int = Field(0, ge=0, le=63)
    """Which GPU"""
    decoder_device_id: int | None = Field(None, ge=0, le=63)
    """Which GPU decodes speech tokens; none: the same; another one of its own lets both work at
    once"""
    gpu_mem_limit_gb: float | None = Field(None, gt=0, le=1024)
    """Bound on ONNX Runtime's GPU arena; none: no bound"""
    cudnn_conv_algo_search: Literal["HEURISTIC", "EXHAUSTIVE", "DEFAULT"] = "HEURISTIC"
    """EXHAUSTIVE costs about 0.6 s for each new shape"""
    cudnn_conv_use_max_workspace: bool = True
    """Let cuDNN pick by speed alone"""
    cudnn_conv1d_pad_to_nc1d: bool = False
    """Pad 1-D convolutions the other way"""
    arena_extend_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = "kSameAsRequested"
    """How the GPU arena grows"""
    use_tf32: bool = True
    """TF32 matrix products in fp32 graphs"""
    prefer_nhwc: bool = False
    """NHWC convolutions on CUDA"""
    sdpa_kernel: int = Field(3, ge=0, le=255)
    """Attention kernels on CUDA, a sum: 1 flash, 2 memory-efficient, 8 cuDNN; 0: as onnxruntime
    likes, which on an H100 plans anew for each length of a text"""
    threads: int = Field(0, ge=0, le=256)
    """CPU threads of each session; 0: the cores of this process, on a GPU 1"""

    # --- graphs
    compile_lm: bool = True
    """At the first start, convert the language model to a faster form, and use it if its results
    are equal; off: serve the published graph, slower"""
    kv_dtype: Literal["auto", "float", "int8"] = "auto"
    """Precision of keys and values; auto: int8 for quantised models on a CPU, once proven equal;
    int8 halves their memory at least"""
    cuda_graphs: bool = True
    """Replay captured steps and windows on a GPU; off: launch each kernel"""
    max_sequence_length: int = Field(2048, ge=512, le=8196)
    """Voice, text and speech tokens that one sequence can hold; more takes memory for each of
    `max_sequences` and allows longer segments"""
    kv_prefix_cache_mb: int = Field(1024, ge=0, le=1_000_000)
    """Memory for the language model's state of each voice; more lets more voices start without
    being prepared again; on a GPU by its memory where not set"""
    decoder_prompt_s: float = Field(3.0, ge=1.0, le=10.0)
    """Seconds of the reference that the decoder imitates; more costs time in every window and
    memory for every voice"""
    decoder_prompt_cache_mb: int = Field(320, ge=0, le=1_000_000)
    """On a CPU: memory for voices' prompts, decoded once (35 MB a voice at 3 s); more keeps more
    voices fast; 0: decode the prompt in every window"""
    decoder_int8: bool = True
    """On a CPU: the decoder's matrix products in 8 bits where close enough"""

    codec_rows: int = Field(64, ge=1, le=1024)
    """Orpheus on a GPU: windows of different requests in one call of its codec; more raises
    throughput, and each first sound waits for larger calls"""
    decoder_gather_ms: float = Field(3.0, ge=0.0, le=100.0)
    """On a GPU: how long a window waits for those of other requests to share its call; more fills
    calls, and delays every sound by as much"""

    # --- engine
    max_concurrent_requests: int = Field(8, ge=1, le=1024)
    """Requests synthesised at once; more raises throughput until the processor is busy, and makes
    each of them slower; on a GPU by its memory where not set"""
    max_queued_requests: int = Field(32, ge=0, le=65536)
    """Requests that wait for a place; more waits longer instead of getting 429; on a GPU by its
    memory where not set"""
    max_sequences: int = Field(16, ge=1, le=1024)
    """Segments that the language model steps together, in one batch; more raises throughput and
    memory, and slows each step; on a GPU by its memory where not set"""
    voice_workers: int = Field(2, ge=1, le=64)
    """Threads that read recordings and encode voices; more registers voices faster and takes the
    cores from speech"""
    max_new_tokens: MaxNewTokens | None = None
    """Most speech tokens of one segment; more allows longer segments, and a runaway to last longer;
    none: as suits the model (Turbo: 1024, 25 are a second)"""
    temperature: Temperature | None = None
    """Higher varies more, and errs more; 0: always the likeliest token; none: as the model says"""
    top_k: TopK | None = None
    """Draw from so many of the likeliest tokens; higher varies more; 0: from all; none: as the
    model says"""
    top_p: TopP | None = None
    """Draw from the likeliest tokens up to this probability; higher varies more; 1: from all; none:
    as the model says"""
    min_p: MinP | None = None
    """Draw from tokens at least so many times as likely as the likeliest; higher varies less; 0:
    from all; none: as the model says"""
    repetition_penalty: RepetitionPenalty | None = None
    """Higher repeats less; 1: off; none: as the model says"""
    penalty_window: PenaltyWindow | None = None
    """Tokens that the penalty looks back; more repeats less; 0: all; none: as the model says"""
    runaway_guard: bool = True
    """Stop loops, endless speech and dead air, and try the segment again; off: it runs up to
    `max_new_tokens`"""
    model_voices: str = ""
    """Orpheus: names that a finetune was trained with, separated by commas, the default voice
    first; none: those of its authors' release in the model's language"""
    prompt_form: Literal["trained", "package"] = "trained"
    """Orpheus: the prompt as in its training data, or as its authors' package sends it, with a
    second begin of text in front"""
    max_inflight_segments: int = Field(3, ge=1, le=64)
    """Segments of one request in work at once; more finishes long texts sooner and leaves less for
    others"""

    # --- text
    first_segment_words: int | None = Field(None, ge=1, le=1000)
    """Most words of the first segment; more sounds more even and starts later; none, here and in
    the next three: as suits the model (Turbo: 40, 140, 12 and 280)"""
    next_segment_words: int | None = Field(None, ge=1, le=1000)
    """Most words of each later segment; more sounds more even and needs longer sequences"""
    tail_segment_words: int | None = Field(None, ge=0, le=1000)
    """A last segment of fewer words joins the one before it; more joins more often"""
    max_segment_chars: int | None = Field(None, ge=40, le=1000)
    """Most characters of any segment; more risks that the model loses its way"""
    code_blocks: Literal["skip", "speak"] = "skip"
    """Fenced code in Markdown; skip: a short pause instead; speak: read out"""
    segment_pause_ms: int = Field(120, ge=0, le=5000)
    """Silence between segments; more sounds slower"""

    # --- voices
    voices: str | None = Field(None, repr=False)
    """Where voices are kept, for several servers at once: a folder, or an address such as
    `s3://bucket/prefix`; none: in the data directory, for this server alone"""
    default_voice: str | None = None
    """The voice of calls that name none; none: the model's own, or slt"""
    voice_cache_size: int = Field(100, ge=1, le=100_000)
    """Encoded voices kept in memory; more saves reading them from disk again"""
    voice_cache_mb: int = Field(512, ge=1, le=1_000_000)
    """Memory limit of those voices (MB); more keeps more"""
    max_reference_s: float = Field(300, ge=5, le=3600)
    """Longest recording of a voice that is read; more takes time and memory at registration"""
    max_voices: int = Field(10_000, ge=1, le=1_000_000)
    """Voices kept on disk; more takes disk; one beyond gets 507"""
    apply_watermark: bool = False
    """Inaudible watermark; needs the package resemble-perth"""

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def sampling(self) -> dict[str, float | None]:
        """The sampling parameters as far as they are set here."""
        return {name: getattr(self, name) for name in SAMPLING}

    def segments(self) -> dict[str, int]:
        """The sizes of segments as far as they are set here, by the names of `SegmentLimits`."""
        sizes = {
            "first_words": self.first_segment_words,
            "next_words": self.next_segment_words,
            "tail_words": self.tail_segment_words,
            "max_chars": self.max_segment_chars,
        }
        return {name: size for name, size in sizes.items() if size is not None}


def configs_of(config: TTSConfig, models: str) -> dict[str, TTSConfig]:
    """The settings of each model, by its name, the default first; an only one has none. Raises
    ConfigError."""
    wanted = [word.strip() for word in models.split(",") if word.strip()]
    if "model" in config.model_fields_set or not wanted:
        wanted.insert(0, config.model)
    wanted = list(dict.fromkeys(wanted))
    if len(wanted) > 1 and config.model_revision:
        raise ConfigError("CHATTERBOX_MODEL_REVISION is of one model; CHATTERBOX_MODELS has more")
    configs: dict[str, TTSConfig] = {}
    for model in wanted:
        path = Path(model).expanduser()
        name = path.resolve().name if path.is_dir() else model
        if name.casefold() in map(str.casefold, configs):
            raise ConfigError(f"CHATTERBOX_MODELS: two are called {name}")
        configs[name] = config.model_copy(update={"model": model})
    return configs if len(configs) > 1 else {"": configs.popitem()[1]}
