// A recording's loudness over time: caller above, assistant below.

// Where a WAV's samples are; null where it is not 16-bit PCM.
function samplesOf(buffer) {
  const view = new DataView(buffer);
  let at = 12;
  let channels = 2;
  let rate = 8000;
  while (at + 8 <= view.byteLength) {
    const name = String.fromCharCode(...new Uint8Array(buffer, at, 4));
    const size = view.getUint32(at + 4, true);
    if (name === 'fmt ') {
      channels = view.getUint16(at + 10, true);
      rate = view.getUint32(at + 12, true);
      if (view.getUint16(at + 22, true) !== 16) return null;
    } else if (name === 'data') {
      const bytes = Math.min(size, view.byteLength - at - 8) & ~(channels * 2 - 1);
      return { samples: new Int16Array(buffer.slice(at + 8, at + 8 + bytes)), channels, rate };
    }
    at += 8 + size + (size & 1);
  }
  return null;
}

export function loudness(buffer, columns) {
  const found = samplesOf(buffer);
  if (!found) return null;
  const { samples, channels, rate } = found;
  const frames = samples.length / channels;
  const peaks = Array.from({ length: channels }, () => new Float32Array(columns));
  const step = Math.max(1, frames / columns);
  for (let column = 0; column < columns; column += 1) {
    const end = Math.min(frames, Math.floor((column + 1) * step));
    for (let frame = Math.floor(column * step); frame < end; frame += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        const level = Math.abs(samples[frame * channels + channel]) / 32768;
        if (level > peaks[channel][column]) peaks[channel][column] = level;
      }
    }
  }
  return { peaks, seconds: frames / rate };
}

export function draw(canvas, peaks, share) {
  const scale = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const paint = canvas.getContext('2d');
  paint.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colors = [style.getPropertyValue('--second'), style.getPropertyValue('--accent')];
  const half = height / 2;
  peaks.forEach((levels, channel) => {
    const columns = levels.length;
    for (let column = 0; column < columns; column += 1) {
      const x = (column / columns) * width;
      paint.globalAlpha = column / columns <= share ? 1 : 0.45;
      paint.fillStyle = colors[channel % 2];
      const tall = Math.max(1, Math.sqrt(levels[column]) * (half - 4));
      paint.fillRect(x, channel ? half + 1 : half - 1 - tall, Math.max(1, width / columns - 1), tall);
    }
  });
  paint.globalAlpha = 1;
  paint.fillStyle = style.getPropertyValue('--danger');
  paint.fillRect(share * width, 0, 1.5, height);
}
