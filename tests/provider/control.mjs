// What a test does to the provider while it runs. Never part of a real provider, so only there when asked for.
import { setTimeout as sleep } from 'node:timers/promises';

import { read_body } from './interaction.mjs';
import { endpoints } from './provider.mjs';

const name_of = new Map(Object.entries(endpoints).map(([name, path]) => [path, name]));
/** The token endpoint is several things in one: it is counted, delayed and failed as a whole and by grant type. */
const by_grant = ['authorization_code', 'refresh_token', 'client_credentials'].map((grant_type) => `token:${grant_type}`);
const names = [...Object.keys(endpoints), ...by_grant];
/** What comes of a request for an `acr` that the session does not have. */
const acr_modes = ['granted', 'ignored', 'refused'];

export function make_control() {
  let counts, delays, failures, acr_mode;
  const reset = () => {
    counts = Object.fromEntries(names.map((name) => [name, 0]));
    delays = new Map();
    failures = new Map();
    acr_mode = 'granted';
  };
  reset();

  /** The names that a request goes by. */
  async function names_of(req, path) {
    const name = name_of.get(path);
    if (!name || !['GET', 'POST'].includes(req.method)) return [];
    if (name !== 'token') return [name];
    // oidc-provider takes a body that was read before it from here.
    req.body = await read_body(req);
    const by_type = `token:${new URLSearchParams(req.body).get('grant_type')}`;
    return by_grant.includes(by_type) ? [name, by_type] : [name];
  }

  /** Counts, delays, fails. True when the request was answered here. */
  async function before(req, res, path) {
    const called = await names_of(req, path);
    for (const name of called) counts[name] += 1;
    const failing = called.find((name) => failures.has(name));
    const failure = failures.get(failing);
    if (failure) {
      failure.times -= 1;
      if (failure.times <= 0) failures.delete(failing);
    }
    const delay = Math.max(0, ...called.map((name) => delays.get(name) ?? 0));
    if (delay > 0) await sleep(delay);
    if (!failure) return false;
    if (failure.status === 0) req.socket.destroy();
    else send(res, failure.status, { error: 'server_error', error_description: 'failure asked for by the test' });
    return true;
  }

  async function handle(req, res, path) {
    let body = {};
    try {
      body = JSON.parse(await read_body(req) || '{}');
      if ('endpoint' in body && !names.includes(body.endpoint)) throw new Error(`unknown endpoint; one of ${names.join(', ')}`);
    } catch (err) {
      send(res, 400, { error: err.message });
      return;
    }
    const { endpoint, ms, status, times = 1, mode } = body;
    switch (`${req.method} ${path}`) {
      case 'GET /control/counts':
        send(res, 200, counts);
        return;
      case 'POST /control/reset':
        reset();
        break;
      case 'POST /control/delay':
        if (!endpoint || !Number.isInteger(ms)) { send(res, 400, { error: 'wants endpoint and ms' }); return; }
        delays.set(endpoint, ms);
        break;
      case 'POST /control/fail':
        if (!endpoint || !Number.isInteger(status)) { send(res, 400, { error: 'wants endpoint and status' }); return; }
        failures.set(endpoint, { status, times });
        break;
      case 'POST /control/acr':
        if (!acr_modes.includes(mode)) { send(res, 400, { error: `wants mode: ${acr_modes.join(', ')}` }); return; }
        acr_mode = mode;
        break;
      default:
        send(res, 404, { error: 'no such control' });
        return;
    }
    send(res, 200, {});
  }

  return { before, handle, acr: () => acr_mode };
}

function send(res, status, body) {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body));
}
