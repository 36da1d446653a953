"""Opens a compiled language model: in slots, captured as CUDA graphs where that is set."""

from chatterbox.config import TTSConfig
from chatterbox.errors import first_line
from chatterbox.runtime.bound_call import takes_both
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import CompiledGraph
from chatterbox.runtime.cuda_graphs import CAPTURE_OPTIONS, Buckets
from chatterbox.runtime.embedding import Embedder, TokensInGraph
from chatterbox.runtime.kv_slots import SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, captures, open_session

MIB = 1024 * 1024
SPIN_US = 20
"""How long the step's threads wait for the next operator awake: long enough for the gaps within a
step (a fifth of its time, otherwise spent waking up), too short to keep a core from the decoder."""


def open_compiled(
    graph: CompiledGraph,
    embed: Embedder,
    config: TTSConfig,
    settings: SessionSettings,
    capacity: int,
) -> tuple[SlottedLanguageModel, str]:
    """The model, and what to tell the operator about it. `capacity`: positions of a slot."""

    def opened(buckets: Buckets | None) -> SlottedLanguageModel:
        options = CAPTURE_OPTIONS if buckets else None
        session = open_session(graph.path, settings, provider_options=options, spin_us=SPIN_US)
        return SlottedLanguageModel(
            session,
            TokensInGraph(embed) if takes_both(session) else embed,
            slots=config.max_sequences,
            capacity=capacity,
            prefix_cache_bytes=config.kv_prefix_cache_mb * MIB,
            memory=Memory(settings.device, settings.device_id),
            buckets=buckets,
        )

    if not captures(config, settings):
        model = opened(None)
        return model, f"compiled, proven equal; cache in {graph.cache}; {room(model)}"

    def captured() -> SlottedLanguageModel | str:
        try:
            model = opened(Buckets(config.max_sequences, capture=True))
            model.rehearse()
        except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
            return first_line(fault)
        return model

    found = captured()  # whose slots are gone where it failed: there may be no room for others
    if isinstance(found, SlottedLanguageModel):
        model, how = found, "steps captured as CUDA graphs"
    else:
        model, how = opened(None), f"no CUDA graphs: {found}"
    return model, f"compiled, proven equal; {how}; {room(model)}"


def room(model: SlottedLanguageModel) -> str:
    """What its slots take, for the operator."""
    gib = model.arena_bytes / 1024**3
    return f"{model.slots} slots of {model.capacity} positions take {gib:.2f} GiB"
