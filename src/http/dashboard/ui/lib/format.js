// Times, durations and names as people read them.

const DAY_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });
const EXACT = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

export const when = (at) => (at ? DAY_TIME.format(new Date(at)) : '–');
export const exact = (at) => (at ? EXACT.format(new Date(at)) : '–');
export const clock = (seconds) => TIME.format(new Date(seconds * 1000));
export const day = (seconds) => DAY.format(new Date(seconds * 1000));

export function duration(ms) {
  if (!(ms >= 0)) return '–';
  const seconds = Math.floor(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (value) => String(value).padStart(2, '0');
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

export const talked = (call) => (call.startedAt && call.endedAt
  ? duration(new Date(call.endedAt) - new Date(call.startedAt)) : '–');

export const ms = (value) => (value === null || value === undefined ? '–' : `${Math.round(value)} ms`);

const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

export const number = (value) => NUMBER.format(value);
export const count = (value, thing) => `${number(value)} ${thing}${value === 1 ? '' : 's'}`;

// The user part of a SIP address, else the address.
export function party(address) {
  const user = /^sips?:([^@;]+)@/.exec(address ?? '');
  if (user?.[1].startsWith('test-call-')) return 'test call';
  return user ? decodeURIComponent(user[1]) : (address || 'unknown');
}

export function other(call) {
  if (call.customer?.number) return call.customer.number;
  return party(call.type === 'outboundPhoneCall' ? call.to : call.from);
}

// `customer-ended-call` -> `Customer ended call`, `orderNumber` -> `Order number`
export function words(name) {
  if (!name) return '–';
  const text = name.replaceAll('-', ' ').replace(/([a-z\d])([A-Z])/g, (_, before, letter) => `${before} ${letter.toLowerCase()}`);
  return text[0].toUpperCase() + text.slice(1);
}

const BAD = /error|failed|crashed|timed-out|refused|unavailable|incompatible|rejected|forbidden|invalid/;

export function outcomeClass(reason) {
  if (!reason) return 'live';
  return BAD.test(reason) ? 'bad' : 'ok';
}
