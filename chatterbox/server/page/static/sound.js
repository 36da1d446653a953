// Converts 16-bit little-endian mono PCM and WAV files.
// Uses neither the network nor elements.

const FULL_SCALE = 32768;
const HEADER_BYTES = 44;

/** PCM bytes → samples from -1 to 1. */
export function samplesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length >> 1 }, (_, i) => view.getInt16(2 * i, true) / FULL_SCALE);
}

/** Samples → PCM bytes. */
export function bytesOf(samples) {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, i) => {
    const level = Math.round(sample * FULL_SCALE);
    view.setInt16(2 * i, Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, level)), true);
  });
  return new Uint8Array(view.buffer);
}

/** Samples → a WAV file. */
export function wavOf(samples, sampleRate) {
  const bytes = bytesOf(samples);
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  const word = (at, text) => [...text].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, HEADER_BYTES - 8 + bytes.length, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true); // bytes of a second
  header.setUint16(32, 2, true); // bytes of a sample
  header.setUint16(34, 16, true); // its bits
  word(36, "data");
  header.setUint32(40, bytes.length, true);
  return new Blob([header, bytes], { type: "audio/wav" });
}

/** A WAV file that `wavOf` made → its samples. */
export async function samplesOfWav(file) {
  return samplesOf(new Uint8Array(await file.arrayBuffer()).subarray(HEADER_BYTES));
}
