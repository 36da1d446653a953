// What are the bytes that arrive? 16-bit little-endian mono samples: to be heard, and to be kept.
// Knows neither the network nor elements.

const FULL_SCALE = 32768;
const HEADER_BYTES = 44;
const FIRST_LEAD_S = 0.1; // between the first sound's arrival and its start
const LONGEST_LEAD_S = 2;

/** Bytes → samples from -1 to 1. */
export function samplesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length >> 1 }, (_, i) => view.getInt16(2 * i, true) / FULL_SCALE);
}

/** Pieces of bytes → a WAV file. */
export function wavOf(pieces, sampleRate) {
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  const word = (at, text) => [...text].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, HEADER_BYTES - 8 + size, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true); // bytes of a second
  header.setUint16(32, 2, true); // bytes of a sample
  header.setUint16(34, 16, true); // its bits
  word(36, "data");
  header.setUint32(40, size, true);
  return new Blob([header, ...pieces], { type: "audio/wav" });
}

/**
 * Plays samples as they come, without a gap while they come in time. Buffers are scheduled one
 * after the other; an AudioWorklet would need HTTPS, which a server on a home network has not.
 * Make it inside a click: browsers let no page sound by itself.
 */
export class Player {
  #context = new AudioContext();
  #end = 0; // on the context's clock, of what is scheduled
  #shift = 0; // from the sound's clock to the context's
  #lead = FIRST_LEAD_S;
  #scheduled = 0; // seconds of sound

  constructor() {
    this.#context.resume();
  }

  push(samples, sampleRate) {
    if (this.#context.state === "closed") return;
    const buffer = this.#context.createBuffer(1, samples.length, sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#context.destination);
    if (this.#end < this.#context.currentTime) {
      // The first sound, or one that comes late: wait a little, and longer each time.
      this.#end = this.#context.currentTime + this.#lead;
      this.#shift = this.#end - this.#scheduled;
      this.#lead = Math.min(2 * this.#lead, LONGEST_LEAD_S);
    }
    source.start(this.#end);
    this.#end += buffer.duration;
    this.#scheduled += buffer.duration;
  }

  /** Seconds of the sound that have been heard. */
  get position() {
    const heard = this.#context.currentTime - this.#shift;
    return Math.max(0, Math.min(heard, this.#scheduled));
  }

  /** Whether all that has come was heard. */
  get idle() {
    return this.#context.state === "closed" || this.#context.currentTime >= this.#end;
  }

  stop() {
    if (this.#context.state !== "closed") this.#context.close();
  }
}
