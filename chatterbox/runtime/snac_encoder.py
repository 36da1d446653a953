"""The SNAC 24 kHz codec's encoder: a recording → tokens, for the prompt that clones a voice."""

import numpy as np
import onnxruntime as ort

from chatterbox.arrays import F32, I64
from chatterbox.errors import ModelError
from chatterbox.runtime.decoder.graph_io import Array, as_declared
from chatterbox.runtime.decoder.snac import CODEBOOK_PLACES, CODES, PLACES, SNAC


class SnacEncoder:
    """`encoder_model`: a recording → tokens. Safe to call from several threads."""

    def __init__(self, session: ort.InferenceSession) -> None:
        if len(session.get_outputs()) != len(CODEBOOK_PLACES):
            raise ModelError("encoder_model does not give three rows of codes: not SNAC at 24 kHz")
        self._session = session
        (given,) = session.get_inputs()
        self._input, self._rank = given.name, len(given.shape)

    def encode(self, audio: F32) -> I64:
        """`audio` [samples] at 24 kHz → tokens [7 × frames]. A frame whose first code is that of
        the frame before is left out, as in the data that models of such tokens are trained on."""
        padded = np.pad(audio, (0, -len(audio) % SNAC.samples_per_frame)).astype(np.float32)
        names = [o.name for o in self._session.get_outputs()]
        feeds = {self._input: padded.reshape((1,) * (self._rank - 1) + (-1,))}
        rows = self._session.run(names, as_declared(self._session, feeds))
        books: list[Array] = sorted((np.asarray(row).ravel() for row in rows), key=len)
        codes = np.zeros((len(books[0]), PLACES), np.int64)
        for places, book in zip(CODEBOOK_PLACES, books, strict=True):
            codes[:, places] = book[: len(codes) * len(places)].reshape(len(codes), -1)
        new = np.append(True, codes[1:, 0] != codes[:-1, 0])[: len(codes)]
        made: I64 = (codes[new] + CODES * np.arange(PLACES)).reshape(-1)
        return made
