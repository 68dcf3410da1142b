// Listening in: 16-bit stereo at 8 kHz over a WebSocket.

import { Playback } from './sound.js';

export function listenIn(callId, onstate) {
  const audio = new AudioContext();
  const playback = new Playback(audio, 2);
  const url = new URL(`/ui/api/live/${callId}/listen`, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('message', ({ data }) => {
    if (typeof data === 'string') {
      playback.rate = JSON.parse(data).sampleRate;
      return;
    }
    playback.play(data);
    onstate({ playing: audio.state === 'running', seconds: playback.seconds });
  });
  socket.addEventListener('close', () => {
    audio.close();
    onstate({ playing: false, closed: true, seconds: playback.seconds });
  });
  return () => socket.close();
}
