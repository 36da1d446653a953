// Records the microphone with the browser's own encoder and container.
// Touches no element. The server reads WebM and Ogg with Opus, and MP4 with AAC.

export const MAX_RECORDING_S = 20; // the model hears 15 s; the rest is room to choose from
const NOT_HERE =
  "Browsers give the microphone only to pages from https:// or from localhost. " +
  "Record with another program and choose the file here.";

/**
 * Starts recording once `ready()` resolves, and calls `onLevel(level, seconds)`, level from 0 to 1.
 * Returns `stop()` and `file`, a promise of the recording. Throws if no microphone is
 * available.
 */
export async function record(onLevel, ready) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(NOT_HERE);
  const stream = await microphone();
  await ready();
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 2048 });
  context.createMediaStreamSource(stream).connect(analyser);
  const began = performance.now();
  const heard = new Float32Array(analyser.fftSize);

  const watch = () => {
    if (recorder.state !== "recording") return;
    analyser.getFloatTimeDomainData(heard);
    const seconds = (performance.now() - began) / 1000;
    onLevel(Math.max(...heard.map(Math.abs)), seconds);
    if (seconds >= MAX_RECORDING_S) recorder.stop();
    else requestAnimationFrame(watch);
  };

  const file = new Promise((resolve) => {
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      resolve(new Blob(parts, { type: recorder.mimeType }));
    };
  });
  recorder.start();
  watch();
  return { file, stop: () => recorder.state === "recording" && recorder.stop() };
}

async function microphone() {
  // Record the unprocessed voice: noise or echo removal would become part of the clone.
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: plain });
  } catch (fault) {
    if (fault.name === "NotAllowedError") throw new Error("The browser was not allowed to use the microphone.");
    if (fault.name === "NotFoundError") throw new Error("There is no microphone.");
    throw new Error(`The microphone cannot be used: ${fault.message}`);
  }
}
