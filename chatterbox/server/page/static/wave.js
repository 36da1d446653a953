// The growing waveform: bars on a canvas, with the part already played in another colour.
// Works on samples and seconds; independent of the server and the player.

const PEAKS_PER_S = 100;
const BAR_PX = 3;
const GAP_PX = 2;
const QUIETEST_FULL = 0.15; // the loudest peak has the full height, but never less than this one
const CURVE = 0.8; // a little more room for what is quiet

export class Wave {
  #canvas;
  #peaks = []; // loudest sample of each 1/PEAKS_PER_S second
  #open = { peak: 0, samples: 0 }; // of the one that is not full yet
  #loudest = QUIETEST_FULL;
  #expectedS = 0;
  #position = 0;
  #selected = null; // seconds; null: what was heard is coloured
  #frame = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    document.addEventListener("themechange", () => this.#redraw());
  }

  /** Clears the wave; `expectedS` is the estimated length, so that the wave grows to the right. */
  reset(expectedS) {
    this.#peaks = [];
    this.#open = { peak: 0, samples: 0 };
    this.#loudest = QUIETEST_FULL;
    this.#expectedS = expectedS;
    this.move(0);
  }

  push(samples, sampleRate) {
    const each = Math.round(sampleRate / PEAKS_PER_S);
    for (const sample of samples) {
      this.#open.peak = Math.max(this.#open.peak, Math.abs(sample));
      if (++this.#open.samples < each) continue;
      this.#peaks.push(this.#open.peak);
      this.#loudest = Math.max(this.#loudest, this.#open.peak);
      this.#open = { peak: 0, samples: 0 };
    }
    this.#redraw();
  }

  /** Marks the audio as complete, so that it fills the width. */
  finish() {
    this.#expectedS = 0;
    this.#redraw();
  }

  /** Sets the played seconds. */
  move(position) {
    this.#position = position;
    this.#redraw();
  }

  /** Highlights a stretch. */
  select(range) {
    this.#selected = range;
    this.#redraw();
  }

  /** The seconds that the full width represents. */
  get seconds() {
    return Math.max(this.#expectedS, this.#peaks.length / PEAKS_PER_S);
  }

  #redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const [heard, known, none] = ["--heard", "--known", "--none"].map((name) => style.getPropertyValue(name));
    const bars = Math.floor((width + GAP_PX) / (BAR_PX + GAP_PX));
    const perBar = (this.seconds * PEAKS_PER_S) / bars;
    const { start, end } = this.#selected ?? { start: 0, end: this.#position };
    const [first, last] = [start, end].map((second) => (this.seconds ? (second / this.seconds) * bars : 0));
    for (let bar = 0; bar < bars; bar++) {
      const level = this.#levelIn(bar * perBar, (bar + 1) * perBar);
      const share = level === null ? 0 : (level / this.#loudest) ** CURVE;
      const tall = Math.max(BAR_PX, share * height);
      context.fillStyle = level === null ? none : bar >= first && bar < last ? heard : known;
      context.beginPath();
      context.roundRect(bar * (BAR_PX + GAP_PX), (height - tall) / 2, BAR_PX, tall, BAR_PX / 2);
      context.fill();
    }
  }

  /** The mean of several peaks; it shows syllables where the maximum would show a solid block. */
  #levelIn(from, to) {
    const first = Math.floor(from);
    if (first >= this.#peaks.length) return null;
    const peaks = this.#peaks.slice(first, Math.max(first + 1, Math.floor(to)));
    return peaks.reduce((sum, peak) => sum + peak, 0) / peaks.length;
  }
}
