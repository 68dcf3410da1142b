// Logging in, and making the first operator.

import * as api from '../lib/api.js';
import { field, h, replace } from '../lib/dom.js';

export function login(root, setup, done) {
  const wrong = h('p', { class: 'error', role: 'alert' });
  const name = h('input', { name: 'name', autocomplete: 'username', required: true, maxlength: 40, autofocus: true });
  const password = h('input', {
    name: 'password', type: 'password', required: true, maxlength: 256,
    autocomplete: setup ? 'new-password' : 'current-password', minlength: setup ? 10 : undefined,
  });
  const token = h('input', { name: 'token', required: true, autocomplete: 'off', class: 'mono' });
  const button = h('button', { class: 'primary' }, setup ? 'Make the operator' : 'Log in');
  const form = h('form', {
    class: 'panel',
    async onsubmit(event) {
      event.preventDefault();
      button.disabled = true;
      wrong.textContent = '';
      try {
        const values = { name: name.value, password: password.value };
        api.known(setup
          ? await api.post('/ui/api/setup', { ...values, token: token.value })
          : await api.post('/ui/api/session', values));
        done();
      } catch (error) {
        wrong.textContent = error.message;
        button.disabled = false;
        password.focus();
      }
    },
  },
  h('div', { class: 'brand' }, h('img', { src: '/ui/icon.svg', alt: '' }), h('h1', {}, setup ? 'Set up Offhook' : 'Offhook')),
  setup && h('p', { class: 'muted' }, 'Nobody can log in yet. The server printed a token when it started; it makes the first operator.'),
  setup && field('Token', token),
  field('Name', name),
  field('Password', password, setup ? 'At least 10 characters' : undefined),
  wrong, button,
  !setup && h('p', { class: 'muted small' }, 'Forgotten? “offhook operator create --name NAME” on the server gives a new password.'));
  replace(root, h('main', { id: 'main', class: 'login' }, form));
  name.focus();
}
