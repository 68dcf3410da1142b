// Runs where sound is made: takes the microphone, whatever its rate, to 16 kHz in pieces of 20 ms.
// What is above 8 kHz was taken out before it comes here.

const RATE = 16000;
const PIECE = 320;

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    // The place of the next sample, in those of the microphone, from the last one kept.
    this.place = 0;
    this.last = 0;
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
    this.power = 0;
  }

  process([[heard]]) {
    if (!heard) return true;
    const step = sampleRate / RATE;
    while (this.place < heard.length) {
      const before = Math.floor(this.place);
      const part = this.place - before;
      const from = before === 0 ? this.last : heard[before - 1];
      this.take(from + (heard[before] - from) * part);
      this.place += step;
    }
    this.place -= heard.length;
    this.last = heard[heard.length - 1];
    return true;
  }

  take(sample) {
    const held = Math.max(-1, Math.min(1, sample));
    this.power += held ** 2;
    this.piece[this.filled] = Math.round(held * 32767);
    this.filled += 1;
    if (this.filled < PIECE) return;
    this.port.postMessage({ samples: this.piece.buffer, rms: Math.sqrt(this.power / PIECE) }, [this.piece.buffer]);
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
    this.power = 0;
  }
}

registerProcessor('microphone', Microphone);
