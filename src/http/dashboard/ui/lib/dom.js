// Elements without a framework. Text is always text: nothing from a call becomes markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

export function toast(message) {
  const shown = h('div', { class: 'toast' }, message);
  document.getElementById('toasts').append(shown);
  setTimeout(() => shown.remove(), 6000);
}

export function head(title, sub, ...actions) {
  return h('div', { class: 'head' },
    h('div', {}, h('h1', {}, title), sub && h('p', { class: 'sub' }, sub)),
    h('div', { class: 'row' }, actions));
}

export function panel(title, extra, ...children) {
  return h('section', { class: 'panel', 'aria-label': title },
    h('header', {}, h('h2', {}, title), extra), children);
}

export function empty(title, text) {
  return h('div', { class: 'empty' }, h('b', {}, title), text);
}

export function failure(error, again) {
  return h('div', { class: 'panel' }, h('div', { class: 'empty', role: 'alert' },
    h('b', {}, 'This cannot be shown now'), error.message,
    again && h('p', {}, h('button', { onclick: again }, 'Try again'))));
}

export function field(label, input, hint) {
  return h('label', { class: 'field' }, label, input, hint && h('span', { class: 'hint' }, hint));
}

// Asks in a dialog; resolves to the form's values, or null.
export function ask(title, submit, ...fields) {
  return new Promise((resolve) => {
    const form = h('form', { method: 'dialog' }, h('h2', {}, title), fields,
      h('div', { class: 'row' },
        h('button', { class: 'primary', value: 'yes' }, submit),
        h('button', { value: 'no', formnovalidate: true }, 'Cancel')));
    const dialog = h('dialog', { 'aria-label': title }, form);
    dialog.addEventListener('close', () => {
      const values = Object.fromEntries(new FormData(form));
      resolve(dialog.returnValue === 'yes' ? values : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
