"""How are the encoder and the embedding called? Typed wrappers around sessions.

Knows the contract's names and shapes; knows no file, no batch and no thread.
"""

import numpy as np
import onnxruntime as ort

from chatterbox.errors import ModelError
from chatterbox.runtime.contract import F32, I64, VoiceTensors
from chatterbox.runtime.sessions import SEVERITY_FATAL


def require(session: ort.InferenceSession, graph: str, inputs: set[str], outputs: set[str]) -> None:
    """Raise ModelError unless the session has these inputs and outputs."""
    missing = (inputs - {i.name for i in session.get_inputs()}) | (
        outputs - {o.name for o in session.get_outputs()}
    )
    if missing:
        raise ModelError(
            f"{graph} has no {', '.join(sorted(missing))}: not a Chatterbox Turbo graph"
        )


class EncoderGraph:
    """speech_encoder: a reference → voice tensors. Safe to call from several threads."""

    OUTPUTS = ("audio_features", "audio_tokens", "speaker_embeddings", "speaker_features")

    def __init__(self, session: ort.InferenceSession) -> None:
        require(session, "speech_encoder", {"audio_values"}, set(self.OUTPUTS))
        self._session = session

    def encode(self, audio: F32) -> VoiceTensors:
        """`audio` [samples] at 24 kHz → tensors without their batch axis."""
        features, codes, speaker, mel = self._session.run(
            list(self.OUTPUTS), {"audio_values": audio[None].astype(np.float32)}
        )
        return VoiceTensors(
            features=np.ascontiguousarray(features[0], np.float32),
            prompt_codes=np.ascontiguousarray(codes[0], np.int64),
            speaker=np.ascontiguousarray(speaker[0], np.float32),
            prompt_mel=np.ascontiguousarray(mel[0], np.float32),
        )


class EmbedGraph:
    """embed_tokens: ids → the language model's rows."""

    def __init__(self, session: ort.InferenceSession) -> None:
        require(session, "embed_tokens", {"input_ids"}, {"inputs_embeds"})
        self._session = session

    def text(self, ids: I64) -> F32:
        """Text ids [S ≥ 3], the two end tokens last, which become start codes → [S, hidden]."""
        assert len(ids) >= 3, "an id standing alone would be read as a speech code"
        rows: F32 = self._run(ids[None])[0]
        return rows

    def has_row(self, text_id: int, end_id: int) -> bool:
        """Whether a text may hold that id."""
        options = ort.RunOptions()
        options.log_severity_level = SEVERITY_FATAL
        ids = np.array([[text_id, end_id, end_id]], np.int64)
        try:
            self._session.run(["inputs_embeds"], {"input_ids": ids}, options)
        except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
            return False
        return True

    def codes(self, codes: I64) -> F32:
        """Speech codes [B] → [B, hidden]; a sequence of one is read as a speech code."""
        rows: F32 = self._run(codes[:, None])[:, 0]
        return rows

    def _run(self, ids: I64) -> F32:
        embeds: F32 = self._session.run(["inputs_embeds"], {"input_ids": ids})[0]
        return embeds
