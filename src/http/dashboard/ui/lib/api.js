// Requests to the server, as the operator who is logged in.

let csrf = '';

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: 'same-origin',
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(method === 'GET' ? {} : { 'x-csrf-token': csrf }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, 'The server does not answer.');
  }
  const text = await response.text();
  let data = null;
  try { data = text ? JSON.parse(text) : null; } catch { data = null; }
  if (response.ok) return data;
  const message = [data?.message ?? text ?? response.statusText].flat().join('; ');
  if (response.status === 401 && path !== '/ui/api/session') dispatchEvent(new Event('loggedout'));
  throw new ApiError(response.status, message || `The server answered ${response.status}.`);
}

export const get = (path) => request('GET', path);
export const post = (path, body = {}) => request('POST', path, body);
export const patch = (path, body) => request('PATCH', path, body);
export const remove = (path) => request('DELETE', path);

export async function session() {
  return known(await get('/ui/api/session'));
}

export function known(answer) {
  csrf = answer.csrf ?? '';
  return answer;
}

export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return new URLSearchParams(set).toString();
}

// Server-sent events that come back after an interruption; `onlost` says that some are missing, and
// `onstate` whether they come.
export function follow(path, onevent, onlost, onstate = () => {}) {
  const source = new EventSource(path);
  let opened = false;
  source.addEventListener('open', () => {
    if (opened) onlost();
    opened = true;
    onstate(true);
  });
  source.addEventListener('error', () => onstate(false));
  source.addEventListener('event', (event) => onevent(JSON.parse(event.data)));
  source.addEventListener('missed', onlost);
  return () => source.close();
}
