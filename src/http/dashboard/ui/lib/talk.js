// A call by microphone: what it hears goes to the server, and what the assistant says comes back.

import { Playback, loudness } from './sound.js';

// More than this waiting to be sent, in bytes, is sound that would come too late.
const MOST_WAITING = 32000;

const REFUSED = {
  NotAllowedError: 'The browser does not let this page use the microphone. Allow it beside the address, and try again.',
  NotFoundError: 'There is no microphone.',
  NotReadableError: 'Another program holds the microphone.',
};

async function microphone() {
  if (!isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new Error('Browsers give the microphone to pages over HTTPS only, or from localhost. '
      + 'Put a proxy with a certificate before Offhook, or open the dashboard on the machine itself.');
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

// Two filters in a row are steep enough for what 16 kHz cannot hold.
function lowPass(audio, from) {
  return [0.54, 1.31].reduce((node, Q) => {
    const filter = new BiquadFilterNode(audio, { type: 'lowpass', frequency: 7000, Q });
    node.connect(filter);
    return filter;
  }, from);
}

// `on` has ringing(), started(callId), heard(level, playback), said(level) and ended(reason).
// Resolves to a function that hangs up.
export async function talk(assistant, on) {
  const stream = await microphone();
  const audio = new AudioContext();
  const close = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (audio.state !== 'closed') audio.close();
  };
  try {
    await audio.audioWorklet.addModule('/ui/lib/microphone.js');
  } catch (error) {
    close();
    throw new Error(`This browser cannot take up sound: ${error.message}`);
  }
  const url = new URL(`/ui/api/talk?${new URLSearchParams({ assistant })}`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  const playback = new Playback(audio, 1);
  const worklet = new AudioWorkletNode(audio, 'microphone', { numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit' });
  lowPass(audio, new MediaStreamAudioSourceNode(audio, { mediaStream: stream })).connect(worklet);
  worklet.port.addEventListener('message', ({ data: { samples, rms } }) => {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount < MOST_WAITING) socket.send(samples);
    on.said(loudness(rms));
  });
  worklet.port.start();
  let why = 'The connection to the server was lost.';
  socket.addEventListener('message', ({ data }) => {
    if (typeof data !== 'string') {
      const level = playback.play(data);
      on.heard(level, playback);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === 'ringing') on.ringing();
    else if (message.type === 'start') {
      playback.rate = message.sampleRate;
      on.started(message.callId);
    } else if (message.type === 'ended') why = message.reason;
  });
  socket.addEventListener('close', () => {
    close();
    on.ended(why);
  });
  return () => {
    why = 'You hung up.';
    socket.close();
  };
}
