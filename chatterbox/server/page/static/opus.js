// Incremental Ogg Opus decoder: each new stretch is decoded as a small file
// of its own, preceded by the packets that the codec needs to converge. Uses no network.
// A WebCodecs decoder would need HTTPS, which a server on a home network does not have.

export const OPUS_RATE_HZ = 48_000;
const LEAD_PAGES = 6; // of 20 ms: RFC 7845 wants 80 ms
const HEADERS = 2; // pages of the stream that hold no sound
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
  return crc;
});

/** Whether this browser can decode Opus this way. */
export const playsOpus = () => new Audio().canPlayType("audio/ogg; codecs=opus") !== "";

export class OpusReader {
  #rest = new Uint8Array(0);
  #pages = []; // the headers, and the last ones that were decoded
  #at = 0; // granule position of the last page

  /** Decodes more bytes of the stream to samples. */
  async read(bytes) {
    const fresh = this.#split(bytes);
    const lead = this.#pages.slice(HEADERS).slice(-LEAD_PAGES);
    const heads = [...this.#pages, ...fresh].slice(0, HEADERS);
    const sound = fresh.slice(Math.max(0, HEADERS - this.#pages.length));
    this.#pages = [...heads, ...[...lead, ...sound].slice(-LEAD_PAGES)];
    if (!sound.length) return new Float32Array(0);
    const skip = heads[0].view.getUint16(heads[0].body + 10, true); // of OpusHead: made while it found its way
    const from = Math.max(skip, this.#at);
    this.#at = sound.at(-1).granule;
    const file = new Blob(joined([...heads, ...lead, ...sound]));
    const context = new OfflineAudioContext(1, 1, OPUS_RATE_HZ);
    const decoded = (await context.decodeAudioData(await file.arrayBuffer())).getChannelData(0);
    return decoded.slice(Math.max(0, decoded.length - (this.#at - from)));
  }

  /** Splits off the complete Ogg pages. */
  #split(bytes) {
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    const pages = [];
    let start = 0;
    for (;;) {
      const page = pageAt(all, start);
      if (!page) break;
      pages.push(page);
      start += page.bytes.length;
    }
    this.#rest = all.slice(start);
    return pages;
  }
}

/** The page layout of RFC 3533, section 6: 27 bytes, the segment table, the segments. */
function pageAt(all, start) {
  const body = 27 + (all[start + 26] ?? Infinity);
  if (start + body > all.length) return null;
  const length = all.subarray(start + 27, start + body).reduce((sum, part) => sum + part, body);
  if (start + length > all.length) return null;
  const bytes = all.slice(start, start + length);
  const view = new DataView(bytes.buffer);
  return { bytes, view, body, granule: view.getUint32(6, true) };
}

/** Joins pages into one stream that begins at 0. */
function joined(pages) {
  const sound = pages.slice(HEADERS);
  const start = sound[0].granule - lengthOf(sound);
  return pages.map(({ bytes, granule }, nth) => {
    const copy = bytes.slice();
    const view = new DataView(copy.buffer);
    copy[5] = nth === 0 ? 2 : nth === pages.length - 1 ? 4 : 0; // the first, the last
    view.setUint32(6, nth < HEADERS ? 0 : granule - start, true);
    view.setUint32(18, nth, true);
    view.setUint32(22, 0, true);
    view.setUint32(22, copy.reduce((crc, byte) => (crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte], 0) >>> 0, true);
    return copy;
  });
}

/** The duration of one page in samples; all pages of the stream are alike. */
const lengthOf = (sound) => (sound.length > 1 ? sound[1].granule - sound[0].granule : sound[0].granule);
