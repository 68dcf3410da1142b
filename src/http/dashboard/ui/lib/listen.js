// Listening in: 16-bit stereo at 8 kHz over a WebSocket, played a little behind.

const BEHIND = 0.15;

export function listenIn(callId, onstate) {
  const audio = new AudioContext();
  const url = new URL(`/ui/api/live/${callId}/listen`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  let rate = 8000;
  let next = 0;
  let heard = 0;
  socket.addEventListener('message', ({ data }) => {
    if (typeof data === 'string') {
      rate = JSON.parse(data).sampleRate;
      return;
    }
    const samples = new Int16Array(data);
    const buffer = audio.createBuffer(2, samples.length / 2, rate);
    for (const channel of [0, 1]) {
      const part = buffer.getChannelData(channel);
      for (let place = 0; place < part.length; place += 1) part[place] = samples[place * 2 + channel] / 32768;
    }
    const source = audio.createBufferSource();
    source.buffer = buffer;
    source.connect(audio.destination);
    // Late or far behind: start anew, a little behind.
    if (next < audio.currentTime || next > audio.currentTime + 1) next = audio.currentTime + BEHIND;
    source.start(next);
    next += buffer.duration;
    heard += buffer.duration;
    onstate({ playing: audio.state === 'running', seconds: heard });
  });
  socket.addEventListener('close', () => {
    audio.close();
    onstate({ playing: false, closed: true, seconds: heard });
  });
  return () => socket.close();
}
