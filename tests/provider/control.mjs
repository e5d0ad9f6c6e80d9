// What a test does to the provider while it runs. Never part of a real provider, so only there when asked for.
import { setTimeout as sleep } from 'node:timers/promises';

import { read_body } from './interaction.mjs';
import { endpoints } from './provider.mjs';

const name_of = new Map(Object.entries(endpoints).map(([name, path]) => [path, name]));

export function make_control() {
  let counts, delays, failures;
  const reset = () => {
    counts = Object.fromEntries(Object.keys(endpoints).map((name) => [name, 0]));
    delays = new Map();
    failures = new Map();
  };
  reset();

  /** Counts, delays, fails. True when the request was answered here. */
  async function before(req, res, path) {
    const name = name_of.get(path);
    if (!name || !['GET', 'POST'].includes(req.method)) return false;
    counts[name] += 1;
    const failure = failures.get(name);
    if (failure) {
      failure.times -= 1;
      if (failure.times <= 0) failures.delete(name);
    }
    if (delays.has(name)) await sleep(delays.get(name));
    if (!failure) return false;
    if (failure.status === 0) req.socket.destroy();
    else send(res, failure.status, { error: 'server_error', error_description: 'failure asked for by the test' });
    return true;
  }

  async function handle(req, res, path) {
    let body = {};
    try {
      body = JSON.parse(await read_body(req) || '{}');
      if ('endpoint' in body && !(body.endpoint in endpoints)) throw new Error(`unknown endpoint; one of ${Object.keys(endpoints).join(', ')}`);
    } catch (err) {
      send(res, 400, { error: err.message });
      return;
    }
    const { endpoint, ms, status, times = 1 } = body;
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
      default:
        send(res, 404, { error: 'no such control' });
        return;
    }
    send(res, 200, {});
  }

  return { before, handle };
}

function send(res, status, body) {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body));
}
