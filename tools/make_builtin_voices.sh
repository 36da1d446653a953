#!/usr/bin/env bash
# Makes the reference clips of the four built-in voices with Debian's flite (apt install flite).
# Run in the project's environment; the clips are in the tree, so users never need this.
set -euo pipefail
cd "$(dirname "$0")/.."

target=chatterbox/voices/builtin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { # voice, text
    printf %s "$2" > "$work/$1.txt"
    flite -voice "$1" -t "$2" -o "$work/$1.wav"
}

say slt "The morning bus leaves at seven, and it is hardly ever late. My neighbour grows tomatoes, \
beans, and one very stubborn pumpkin. We counted forty boats in the harbour before the fog came in. \
Shall I read that again?"
say rms "Put the kettle on, would you? The path along the river is dry again, so we could walk to the \
mill and back. Last week I saw a heron there, standing as still as a post. It flew off."
say awb "There is a small shop at the corner which sells nothing but buttons. Glass ones, brass \
ones, and a few that were carved from bone. The owner knows where each of them came from, and she \
will gladly tell you. Bring some time!"
say kal16 "Every evening the lamps along the pier come on, one after another. A child runs ahead to \
see whether she can reach the end before they do. Most of the time she wins, and she is very proud \
of it. Tonight it was close."

python - "$work" "$target" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np

from chatterbox.families.turbo.voice import TurboVoices
from chatterbox.voices.sandbox import AudioDecoder
from chatterbox.voices.reference import float_to_pcm, prepare_reference
from chatterbox.voices.voice_file import reference_to_flac
from chatterbox.voices.store import sha256

work, target = map(Path, sys.argv[1:])
DESCRIPTIONS = {
    "slt": "a woman, US English",
    "rms": "a man, US English",
    "awb": "a man, Scottish English",
    "kal16": "a man, US English, older and more robotic",
}
voices = []
for name, description in DESCRIPTIONS.items():
    recording = (work / f"{name}.wav").read_bytes()
    reference = prepare_reference(AudioDecoder(), recording, TurboVoices.rules, max_seconds=60)
    # 14 of 16 bits keep the rounding noise 63 dB below this speech, and each file under 200 KB.
    pcm = (np.round(float_to_pcm(reference.audio) / 4) * 4).astype(np.int16)
    flac = reference_to_flac(pcm)
    (target / f"{name}.flac").write_bytes(flac)
    entry = {"voice_id": name, "description": description, "sha256": sha256(flac)}
    entry |= {"report": reference.report.as_json()}
    voices.append(entry | {"transcript": (work / f"{name}.txt").read_text(encoding="utf-8")})
    print(f"{name}: {reference.report.used_duration_s:.1f} s, {len(flac)} bytes")
(target / "voices.json").write_text(json.dumps(voices, indent=2) + "\n", encoding="utf-8")
PYTHON
