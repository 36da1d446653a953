// Checks a recording and finds the stretch to use: decodes, measures and trims it in
// the browser, before anything is sent. Touches no element.

import { wavOf } from "./sound.js";

const RATE_HZ = 48_000;
const FRAME_S = 0.02;
const FULL = 0.999; // from here on a sample counts as clipped
const QUIET = 0.01; // -40 dB of full scale: a frame whose loudest sample is below is silence
const EDGE_S = 0.2; // of silence that is left around the speech
const MOST_S = 20; // the models hear 15 s at most
const FEW_S = 5;
export const LEAST_S = 1;

/** Decodes a recording to mono samples. Throws if the browser cannot read it. */
export async function decode(file) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  const buffer = await context.decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((sample, i) => (samples[i] += sample / buffer.numberOfChannels));
  }
  return { samples, sampleRate: buffer.sampleRate, seconds: buffer.duration };
}

/** The peak of each frame. */
function peaksOf(samples, each) {
  const peaks = [];
  for (let at = 0; at < samples.length; at += each) {
    let peak = 0;
    for (let i = at; i < Math.min(at + each, samples.length); i++) peak = Math.max(peak, Math.abs(samples[i]));
    peaks.push(peak);
  }
  return peaks;
}

/** The start and end of the speech, in seconds; at most as long as a model uses. */
export function speechIn({ samples, sampleRate, seconds }) {
  const peaks = peaksOf(samples, Math.round(FRAME_S * sampleRate));
  const first = peaks.findIndex((peak) => peak >= QUIET);
  if (first < 0) return { start: 0, end: Math.min(seconds, MOST_S) };
  const last = peaks.findLastIndex((peak) => peak >= QUIET);
  const start = Math.max(0, first * FRAME_S - EDGE_S);
  return { start, end: Math.min(seconds, (last + 1) * FRAME_S + EDGE_S, start + MOST_S) };
}

/** The report on a stretch: figures, advice, and whether it is usable. */
export function check({ samples, sampleRate }, { start, end }) {
  const stretch = samples.subarray(Math.round(start * sampleRate), Math.round(end * sampleRate));
  const peaks = peaksOf(stretch, Math.round(FRAME_S * sampleRate));
  const seconds = stretch.length / sampleRate;
  const peak = Math.max(0, ...peaks);
  const clipped = stretch.reduce((sum, sample) => sum + (Math.abs(sample) >= FULL), 0) / (stretch.length || 1);
  const silence = peaks.filter((level) => level < QUIET).length / (peaks.length || 1);
  const problems = [];
  if (peak < QUIET) problems.push("The recording is silent. Record again.");
  else if (seconds < LEAST_S) problems.push("This is too short. Record 10 to 15 s.");
  const usable = problems.length === 0;
  if (usable) {
    if (seconds < FEW_S) problems.push("The recording is short. With 10 s the voice would be a closer match.");
    if (clipped > 0.001) problems.push("The recording is clipped, and the voice would sound harsh. Record again, further from the microphone.");
    if (peak < 0.1) problems.push("The recording is very quiet. Record again, closer to the microphone.");
    if (silence > 0.5) problems.push("More than half of the recording is silence. Choose a stretch with more speech.");
  }
  return { seconds, peak, clipped, silence, problems, usable };
}

/** Encodes the stretch as a WAV file. */
export const cut = ({ samples, sampleRate }, { start, end }) =>
  wavOf(samples.subarray(Math.round(start * sampleRate), Math.round(end * sampleRate)), sampleRate);
