// The audio player, for speech still being generated and for stored takes.
// Uses neither the network nor elements.

const FIRST_LEAD_S = 0.1; // between the first sound's arrival and its start
const LONGEST_LEAD_S = 2;
const ROOM = 1 << 18; // samples that a track has room for at first
export const VOLUME_KEY = "chatterbox.volume";

/** A growing sequence of mono samples from -1 to 1. */
export class Track {
  #samples = new Float32Array(ROOM);
  length = 0;
  complete = false;

  constructor(sampleRate) {
    this.sampleRate = sampleRate;
  }

  static of(samples, sampleRate) {
    const track = new Track(sampleRate);
    track.push(samples);
    track.complete = true;
    return track;
  }

  push(samples) {
    if (this.length + samples.length > this.#samples.length) {
      const larger = new Float32Array(2 * (this.length + samples.length));
      larger.set(this.from(0));
      this.#samples = larger;
    }
    this.#samples.set(samples, this.length);
    this.length += samples.length;
  }

  /** A view of the samples between two positions, without copying. */
  from(start, end = this.length) {
    return this.#samples.subarray(start, Math.min(end, this.length));
  }

  get seconds() {
    return this.length / this.sampleRate;
  }
}

/**
 * Plays a track without gaps as long as its audio arrives in time. Schedules buffers one after the
 * other; an AudioWorklet would need HTTPS, which a server on a home network does not have.
 */
export class Player {
  #context = null;
  #gain = null;
  #sources = new Set();
  #track = null;
  #began = 0; // second of the track at which it was last started
  #next = 0; // sample of the track that is scheduled next
  #end = 0; // on the context's clock, of what is scheduled; 0: nothing is
  #shift = 0; // from the track's clock to the context's
  #lead = FIRST_LEAD_S;
  #volume = Number(localStorage.getItem(VOLUME_KEY) ?? 1);
  playing = false;
  waited = 0; // times that the sound of this track came late

  /** Starts the audio context; call it from a click, because browsers block sound otherwise. */
  unlock() {
    if (this.#context) return;
    this.#context = new AudioContext();
    this.#gain = new GainNode(this.#context, { gain: this.#volume });
    this.#gain.connect(this.#context.destination);
  }

  /** Replaces the track and seeks to a second of it. */
  load(track, at = 0) {
    this.#track = track;
    this.#lead = FIRST_LEAD_S;
    this.waited = 0;
    this.seek(at);
  }

  get track() {
    return this.#track;
  }

  play() {
    if (!this.#track) return;
    this.unlock();
    if (this.ended) this.seek(0);
    this.playing = true;
    this.#context.resume();
    this.grown();
  }

  pause() {
    this.playing = false;
    this.#context?.suspend();
  }

  /** Seeks within the available audio. */
  seek(second) {
    for (const source of this.#sources) source.stop();
    this.#sources.clear();
    this.#began = Math.max(0, Math.min(second, this.#track.seconds));
    this.#next = Math.round(this.#began * this.#track.sampleRate);
    this.#end = 0;
    this.grown();
  }

  /** Schedules audio added to the track. */
  grown() {
    if (!this.playing || !this.#track || this.#next >= this.#track.length) return;
    const { sampleRate } = this.#track;
    const samples = this.#track.from(this.#next);
    const buffer = this.#context.createBuffer(1, samples.length, sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#gain);
    source.onended = () => this.#sources.delete(source);
    this.#sources.add(source);
    const now = this.#context.currentTime;
    if (this.#end < now) {
      // First or late audio: wait a little, and longer each time.
      const late = this.#end > 0;
      this.waited += late;
      this.#lead = late ? Math.min(2 * this.#lead, LONGEST_LEAD_S) : this.#lead;
      this.#end = now + (this.#track.complete ? 0 : this.#lead);
      this.#shift = this.#end - this.#next / sampleRate;
    }
    source.start(this.#end);
    this.#end += buffer.duration;
    this.#next = this.#track.length;
  }

  /** The current position in seconds. */
  get position() {
    if (!this.#end) return this.#began;
    const heard = this.#context.currentTime - this.#shift;
    return Math.max(this.#began, Math.min(heard, this.#next / this.#track.sampleRate));
  }

  /** Whether a complete track has been played to its end. */
  get ended() {
    if (!this.#track?.complete) return false;
    return this.position >= this.#track.seconds - 0.005;
  }

  get volume() {
    return this.#volume;
  }

  set volume(volume) {
    this.#volume = volume;
    localStorage.setItem(VOLUME_KEY, volume);
    if (this.#gain) this.#gain.gain.value = volume;
  }
}
