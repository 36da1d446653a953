"""What is said on each WebSocket: the messages of both sides and an example, for the reference.

A test plays every example and holds the tables against what the server sends.
"""

from collections.abc import Mapping

from chatterbox.dialects import kyutai, native_socket, orpheus_fastapi, unmute
from chatterbox.dialects.elevenlabs import context as elevenlabs
from chatterbox.server.reference import Conversation, Message

SOUND = b""
"""Stands for a message of sound."""
TEXT = "Hello there."

_NATIVE = Conversation(
    client=(
        Message(
            "session.config",
            "Voice, format and sampling; may be left out. Cuts off what is being said.",
            native_socket.Config,
        ),
        Message("input.text", "More text, in pieces of any size.", native_socket.Input),
        Message("input.flush", "Speak what is there, whole sentence or not."),
        Message("input.done", "The turn is over. The socket can be used again."),
        Message("input.cancel", "Be silent at once and forget what was not spoken."),
        Message("session.close", "Close the socket."),
    ),
    server=(
        Message(
            "session.configured",
            "The settings are taken.",
            {"ignored": "Names that mean nothing here"},
        ),
        Message(
            "audio.start",
            "A sentence begins.",
            {
                "sentence_index": "Number in the turn, from 0",
                "sentence_text": "What will be heard",
                "format": "As configured",
                "sample_rate": "Hz",
                "seed": "Gives the same speech again",
            },
        ),
        Message(
            "audio.words",
            "With `word_timestamps`, before their sound.",
            {"words": "List of `{word, start_s, end_s}`, counted from the turn's beginning"},
        ),
        Message("(binary)", "Sound in `response_format`."),
        Message(
            "audio.done",
            "The sentence is spoken.",
            {
                "sentence_index": "As in `audio.start`",
                "start_s": "When it begins, counted from the turn's beginning",
                "end_s": "When it ends",
                "segments": "Pieces that it was spoken in",
                "tokens_generated": "Speech tokens",
            },
        ),
        Message(
            "session.done",
            "The turn is spoken.",
            {"total_sentences": "Of the turn", "audio_s": "Length of its sound"},
        ),
        Message("input.cancelled", "Nothing of what was cancelled follows."),
        Message("audio.delta", "Sound of a context with a name.", {"audio": "Base64"}),
        Message(
            "error",
            "Ends its context; without a context the close follows.",
            {
                "message": "For people",
                "code": "See the errors below",
                "param": "The field at fault, or null",
                "close_code": "What the socket is or would be closed with",
                "retry_after_s": "When to try again; only where that helps",
            },
        ),
    ),
    example=(
        (">", {"type": "session.config", "voice": "slt", "word_timestamps": True}),
        ("<", {"type": "session.configured", "ignored": []}),
        (">", {"type": "input.text", "text": TEXT}),
        (">", {"type": "input.done"}),
        (
            "<",
            {
                "type": "audio.start",
                "sentence_index": 0,
                "sentence_text": TEXT,
                "format": "wav",
                "sample_rate": 24000,
                "seed": 1234,
            },
        ),
        (
            "<",
            {"type": "audio.words", "words": [{"word": "Hello", "start_s": 0.0, "end_s": 0.3}]},
        ),
        ("<", SOUND),
        (
            "<",
            {
                "type": "audio.done",
                "sentence_index": 0,
                "start_s": 0.0,
                "end_s": 0.8,
                "segments": 1,
                "tokens_generated": 20,
            },
        ),
        ("<", {"type": "session.done", "total_sentences": 1, "audio_s": 0.8}),
        (">", {"type": "session.close"}),
    ),
)

_ALIGNED = {
    "audio": "Base64, in `output_format`; null at the end",
    "isFinal": "true once, in the last message",
    "alignment": "`{chars, charStartTimesMs, charDurationsMs}` of exactly this sound, or null",
    "normalizedAlignment": "The same",
}
_CONTEXT = {"contextId": "Which context", "context_id": "The same"}
_TIMES = {"chars": ["H", "i", "."], "charStartTimesMs": [0, 90, 180]}
_TIMES |= {"charDurationsMs": [90, 90, 120]}
_SPOKEN = {"audio": "UklGR…", "isFinal": False}
_SPOKEN |= {"alignment": _TIMES, "normalizedAlignment": _TIMES}
_FINAL = {"audio": None, "isFinal": True, "alignment": None, "normalizedAlignment": None}
_ERROR = {
    "message": "For people",
    "error": "A word: the code of the error, or ElevenLabs' own",
    "code": "What the socket is or would be closed with",
}
_SINGLE = Conversation(
    client=(Message("text", "Text; an empty one ends the input.", elevenlabs.Message),),
    server=(
        Message("audio", "Sound and its characters.", _ALIGNED),
        Message("error", "The close follows.", _ERROR),
    ),
    example=((">", {"text": "Hi. "}), (">", {"text": ""}), ("<", _SPOKEN), ("<", _FINAL)),
    query=elevenlabs.Query,
)
_NAMED = {"contextId": "a", "context_id": "a"}
_MULTI = Conversation(
    client=(
        Message(
            "text",
            "Text for one of up to 16 contexts. An empty one keeps the socket awake.",
            elevenlabs.Message,
        ),
    ),
    server=(
        Message("audio", "Sound and its characters.", _ALIGNED | _CONTEXT),
        Message("error", "Ends its context.", _ERROR | _CONTEXT),
    ),
    example=(
        (">", {"text": "Hi. ", "context_id": "a", "flush": True}),
        (">", {"context_id": "a", "close_context": True}),
        ("<", _SPOKEN | _NAMED),
        ("<", _FINAL | _NAMED),
        (">", {"close_socket": True}),
    ),
    query=elevenlabs.Query,
)
_YAP = Conversation(
    client=(
        Message("text", "A text to speak; without `text`, settings.", orpheus_fastapi.Message),
        Message("(text)", "A bare text, which is spoken; or `__END__`, the end."),
    ),
    server=(
        Message("(binary)", "16-bit samples, 24 kHz, mono."),
        Message("__END__", "Binary: all is spoken."),
    ),
    example=((">", {"text": TEXT, "voice": "slt"}), ("<", SOUND), ("<", "__END__")),
)
_UNMUTE = Conversation(
    client=(
        Message("Speak", "A text to speak.", unmute.TextMessage),
        Message("Text", "More text, spoken sentence by sentence.", unmute.TextMessage),
        Message("Eos", "The text is over."),
        Message("Marker", "Comes back, with all its fields, once everything before is spoken."),
    ),
    server=(
        Message("Ready", "The socket may be used. With `ready=json`: JSON in a text frame."),
        Message("Audio", "Sound.", {"pcm": "16-bit samples, 24 kHz, as bytes"}),
        Message("EndSpeak", "A `Speak` is spoken."),
        Message("Eos", "All text is spoken."),
        Message("Marker", "As it was sent."),
        Message("Error", "The close follows.", {"message": "For people"}),
    ),
    example=(
        ("<", {"type": "Ready"}),
        (">", {"type": "Speak", "text": TEXT, "voice": "slt"}),
        ("<", {"type": "Audio", "pcm": "(bytes)"}),
        ("<", {"type": "EndSpeak"}),
    ),
    query={"ready": "`json`: `Ready` comes as JSON"},
    packed=True,
)
_KYUTAI = Conversation(
    client=(
        Message("Text", "One or more whole words.", kyutai.TextMessage),
        Message("Eos", "The text is over."),
        Message("(text)", "A bare text frame: words, as in `Text`."),
    ),
    server=(
        Message("Ready", "The socket may be used."),
        Message(
            "Text",
            "A word, before its sound.",
            {"text": "The word", "start_s": "When it begins", "stop_s": "When it ends"},
        ),
        Message("Audio", "`format=PcmMessagePack`.", {"pcm": "1920 samples, 24 kHz, as floats"}),
        Message("OggOpus", "`format=OggOpusMessagePack`.", {"data": "Bytes of the file"}),
        Message("(binary)", "`format=Pcm`: 32-bit floats. `format=OggOpus`: bytes of the file."),
        Message("Error", "The close follows.", {"message": "For people"}),
    ),
    example=(
        ("<", {"type": "Ready"}),
        (">", {"type": "Text", "text": "Hello"}),
        (">", {"type": "Text", "text": "there."}),
        (">", {"type": "Eos"}),
        ("<", {"type": "Text", "text": "Hello", "start_s": 0.0, "stop_s": 0.4}),
        ("<", {"type": "Audio", "pcm": "(1920 numbers)"}),
    ),
    query=kyutai.Query,
    packed=True,
)

CONVERSATIONS: Mapping[str, Conversation] = {
    native_socket.PATH: _NATIVE,
    elevenlabs.PATH: _SINGLE,
    elevenlabs.MULTI_PATH: _MULTI,
    orpheus_fastapi.PATH: _YAP,
    unmute.PATH: _UNMUTE,
    kyutai.PATH: _KYUTAI,
}
"""By path."""
