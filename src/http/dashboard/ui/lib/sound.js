// Sound that comes in pieces, played a little behind.

const BEHIND = 0.15;

export class Playback {
  constructor(audio, channels) {
    this.audio = audio;
    this.channels = channels;
    this.rate = 8000;
    this.next = 0;
    // Seconds taken in, and those of them in which something could be heard.
    this.seconds = 0;
    this.audible = 0;
  }

  // 16-bit samples, the channels' in turn. Returns their level, from 0 to 1.
  play(data) {
    const samples = new Int16Array(data);
    const { audio, channels } = this;
    const buffer = audio.createBuffer(channels, samples.length / channels, this.rate);
    let power = 0;
    for (let channel = 0; channel < channels; channel += 1) {
      const part = buffer.getChannelData(channel);
      for (let place = 0; place < part.length; place += 1) {
        part[place] = samples[place * channels + channel] / 32768;
        power += part[place] ** 2;
      }
    }
    const source = audio.createBufferSource();
    source.buffer = buffer;
    source.connect(audio.destination);
    // Late or far behind: start anew, a little behind.
    if (this.next < audio.currentTime || this.next > audio.currentTime + 1) this.next = audio.currentTime + BEHIND;
    source.start(this.next);
    this.next += buffer.duration;
    this.seconds += buffer.duration;
    const level = loudness(Math.sqrt(power / samples.length));
    if (level > 0) this.audible += buffer.duration;
    return level;
  }
}

// What a meter shows of a root mean square: 0 at -50 dB of full scale, 1 at -5 dB.
export function loudness(rms) {
  if (rms <= 0) return 0;
  return Math.min(1, Math.max(0, (20 * Math.log10(rms) + 50) / 45));
}
