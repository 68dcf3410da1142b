// Trunks: where each stands with its registrar, and what went wrong last.

import * as api from '../lib/api.js';
import { empty, h, head, panel, replace } from '../lib/dom.js';
import * as format from '../lib/format.js';

const LOOKS = { registered: 'ok', failed: 'bad', registering: 'warn', unregistered: 'warn' };

function card(trunk, configured) {
  const reach = trunk?.reachability;
  const facts = [['Registrar', configured?.registrar], ['Transport', configured?.transport],
    ['Calls out', configured && (configured.outbound ? 'yes' : 'no')],
    ['Since', trunk && format.when(trunk.since)], ['Registration ends', trunk?.expires && format.when(trunk.expires)],
    ['Answers OPTIONS', reach && `${reach.up ? 'yes' : 'no'}${reach.status ? ` (${reach.status})` : ''}${reach.roundTripMs != null ? `, ${reach.roundTripMs} ms` : ''}`],
  ].filter(([, value]) => value);
  return panel(trunk.trunk, h('span', { class: `pill ${LOOKS[trunk.state] ?? ''}` }, format.words(trunk.state)),
    h('dl', { class: 'facts' }, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    trunk.lastError && h('p', { class: 'notice bad' }, h('b', {}, 'Last error: '), trunk.lastError));
}

export async function trunks(root) {
  const load = async () => {
    const found = await api.get('/ui/api/trunks');
    replace(root, head('Trunks', 'Carriers and PBXs'),
      found.trunks.length ? h('div', { class: 'grid' }, found.trunks.map((trunk) => card(trunk, found.configured[trunk.trunk])))
        : h('div', { class: 'panel' }, empty('No trunks', 'Calls come from softphones on this machine only. A [trunks.NAME] in the configuration connects a carrier or a PBX.')));
  };
  await load();
  const timer = setInterval(() => document.hidden || load().catch(() => {}), 5000);
  return () => clearInterval(timer);
}
