// node --test tests/provider/selftest.mjs: the provider does what the gateway's tests rely on.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as crypto from 'node:crypto';
import * as http from 'node:http';
import * as readline from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const callback = 'http://127.0.0.1:9/oauth2/callback';
const config = {
  control: true,
  rotate_refresh: true,
  clients: [
    {
      client_id: 'app', client_secret: 'app-secret', redirect_uris: [callback], grant_types: ['authorization_code', 'refresh_token'],
      post_logout_redirect_uris: ['http://127.0.0.1:9/oauth2/signed_out'],
    },
    { client_id: 'job', client_secret: 'job-secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'] },
  ],
  accounts: [{ sub: 'ada', password: 'pw', claims: { email: 'ada@example.com', email_verified: true, name: 'Ada', groups: ['staff'], tenant: 'blue' } }],
  resources: {
    'urn:orders': { audience: 'orders', scope: 'orders:read orders:write', format: 'jwt', ttl: 60, claims: ['groups'] },
    'urn:opaque': { audience: 'opaque', scope: 'opaque:read', format: 'opaque', ttl: 60 },
  },
};

/** A browser without script: cookies (one host, so no domains), and redirects as long as they stay at the provider. */
class Browser {
  cookies = new Map();

  constructor(issuer) { this.issuer = issuer; }

  async go(url, form) {
    for (let hops = 0; hops < 10; hops += 1) {
      const res = await fetch(url, {
        method: form ? 'POST' : 'GET',
        body: form && new URLSearchParams(form),
        redirect: 'manual',
        headers: { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      });
      for (const line of set_cookies(res)) {
        const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
        if (value) this.cookies.set(name, value); else this.cookies.delete(name);
      }
      const location = res.headers.get('location');
      if (!location) return { res, html: await res.text() };
      url = new URL(location, url);
      if (url.origin !== this.issuer) return { res, url };
      form = undefined;
    }
    throw new Error('too many redirects');
  }

  /** The first form of a page, sent. */
  submit(html, values) {
    const [, attributes, inside] = html.match(/<form([^>]*)>([\s\S]*?)<\/form>/);
    const hidden = [...inside.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"\/>/g)].map(([, name, value]) => [name, value]);
    return this.go(new URL(attributes.match(/action="([^"]*)"/)[1], this.issuer), { ...Object.fromEntries(hidden), ...values });
  }
}

/** Node 18 before 18.14 has no getSetCookie; its joined form is split where a new name begins. */
function set_cookies(res) {
  return res.headers.getSetCookie?.() ?? (res.headers.get('set-cookie') ?? '').split(/, (?=[^ ;,]+=)/).filter(Boolean);
}

function start(json) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('server.mjs', import.meta.url)), JSON.stringify(json)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = [];
  const listening = new Promise((resolve, reject) => {
    readline.createInterface({ input: child.stdout }).on('line', (line) => { lines.push(line); resolve(JSON.parse(line)); });
    child.on('exit', (code) => reject(new Error(`provider ended with ${code}`)));
  });
  return { child, lines, listening };
}

const payload = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));
const ended = (child) => new Promise((resolve) => { child.once('exit', resolve); });

describe('the test provider', () => {
  let provider, issuer, meta;

  before(async () => {
    provider = start(config);
    ({ issuer } = await provider.listening);
    meta = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  });

  after(async () => {
    const end = ended(provider.child);
    provider.child.stdin.end();
    assert.equal(await end, 0, 'ends when stdin closes');
    assert.equal(provider.lines.length, 1, 'one line on stdout');
  });

  const control = async (what, body) => {
    const res = await fetch(`${issuer}/control/${what}`, body ? { method: 'POST', body: JSON.stringify(body) } : {});
    assert.equal(res.status, 200);
    return res.json();
  };

  const token = async (form, id = 'app') => {
    const res = await fetch(meta.token_endpoint, {
      method: 'POST',
      body: new URLSearchParams(form),
      headers: { authorization: `Basic ${Buffer.from(`${id}:${id}-secret`).toString('base64')}` },
    });
    return { status: res.status, ...await res.json() };
  };

  const authorize = (more) => {
    const verifier = crypto.randomBytes(32).toString('base64url');
    const query = {
      client_id: 'app', redirect_uri: callback, response_type: 'code', scope: 'openid email profile groups', state: 'st', nonce: 'no',
      code_challenge: crypto.createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256', ...more,
    };
    return { verifier, url: `${meta.authorization_endpoint}?${new URLSearchParams(query)}` };
  };

  const redeem = ({ url }, verifier, more) => token({ grant_type: 'authorization_code', code: url.searchParams.get('code'), redirect_uri: callback, code_verifier: verifier, ...more });

  /** From nothing to tokens. */
  async function login(browser, more) {
    const { verifier, url } = authorize(more);
    const { html } = await browser.go(url);
    return redeem(await browser.submit(html, { login: 'ada', password: 'pw' }), verifier);
  }

  const refresh = ({ refresh_token }) => token({ grant_type: 'refresh_token', refresh_token });

  const userinfo_status = async ({ access_token }) => (await fetch(meta.userinfo_endpoint, { headers: { authorization: `Bearer ${access_token}` } })).status;

  it('promises what the gateway uses', () => {
    assert.equal(meta.issuer, issuer);
    assert.equal(meta.authorization_response_iss_parameter_supported, true);
    for (const name of ['jwks_uri', 'userinfo_endpoint', 'end_session_endpoint', 'introspection_endpoint', 'revocation_endpoint', 'pushed_authorization_request_endpoint', 'dpop_signing_alg_values_supported']) assert.ok(meta[name], name);
    assert.equal(meta.backchannel_logout_supported, true);
    assert.deepEqual(meta.acr_values_supported, ['pwd', 'mfa']);
  });

  it('runs a code flow with PKCE, refreshes with rotation and signs out', async () => {
    await control('reset', {});
    const browser = new Browser(issuer);
    const { verifier, url } = authorize();
    const form = await browser.go(url);
    const wrong = await browser.submit(form.html, { login: 'ada', password: 'no' });
    assert.equal(wrong.res.status, 401);
    assert.match(wrong.html, /role="alert"/);
    const back = await browser.submit(wrong.html, { login: 'ada', password: 'pw' });
    assert.equal(back.url.searchParams.get('state'), 'st');
    assert.equal(back.url.searchParams.get('iss'), issuer);

    const tokens = await redeem(back, verifier);
    const id = payload(tokens.id_token);
    assert.deepEqual([id.iss, id.sub, id.aud, id.nonce], [issuer, 'ada', 'app', 'no']);
    const user = await (await fetch(meta.userinfo_endpoint, { headers: { authorization: `Bearer ${tokens.access_token}` } })).json();
    assert.deepEqual(user, { sub: 'ada', ...config.accounts[0].claims });
    assert.equal((await redeem(back, verifier)).error, 'invalid_grant', 'a code is good once');

    const again = await login_again(browser);
    const refreshed = await token({ grant_type: 'refresh_token', refresh_token: again.refresh_token });
    assert.equal(payload(refreshed.id_token).sub, 'ada');
    assert.notEqual(refreshed.refresh_token, again.refresh_token);
    assert.equal((await token({ grant_type: 'refresh_token', refresh_token: again.refresh_token })).error, 'invalid_grant', 'used');
    const counts = await control('counts');
    assert.deepEqual([counts.authorization, counts.token, counts.userinfo], [2, 5, 1]);

    const out = await browser.go(`${meta.end_session_endpoint}?${new URLSearchParams({ id_token_hint: tokens.id_token, post_logout_redirect_uri: config.clients[0].post_logout_redirect_uris[0], state: 'bye' })}`);
    const done = await browser.submit(out.html);
    assert.equal(String(done.url), 'http://127.0.0.1:9/oauth2/signed_out?state=bye');
    assert.match((await browser.go(authorize().url)).html, /name="password"/, 'signed out');
  });

  /** With a session no page appears. */
  async function login_again(browser, more) {
    const { verifier, url } = authorize(more);
    return redeem(await browser.go(url), verifier);
  }

  it('heeds prompt, max_age, acr_values and a user who gives up', async () => {
    const browser = new Browser(issuer);
    assert.equal((await browser.go(authorize({ prompt: 'none' }).url)).url.searchParams.get('error'), 'login_required');
    const first = await login(browser, { max_age: '600' });
    const { auth_time } = payload(first.id_token);
    assert.ok(Math.abs(auth_time - Date.now() / 1000) < 5);
    await new Promise((resolve) => { setTimeout(resolve, 1100); });
    assert.equal(payload((await login_again(browser, { max_age: '600' })).id_token).auth_time, auth_time);
    for (const more of [{ prompt: 'login' }, { max_age: '0' }]) assert.ok(payload((await login(browser, more)).id_token).auth_time > auth_time);

    assert.equal(payload((await login_again(browser, { acr_values: 'pwd' })).id_token).acr, 'pwd');
    assert.equal(payload((await login(browser, { acr_values: 'mfa' })).id_token).acr, 'mfa');
    assert.equal(payload((await login_again(browser, { acr_values: 'gold mfa' })).id_token).acr, 'mfa');
    assert.equal(payload((await login_again(browser, { acr_values: 'gold' })).id_token).acr, 'mfa', 'not to be had here: as it is');

    const { html } = await browser.go(authorize({ prompt: 'login' }).url);
    const gone = await browser.go(`${issuer}${html.match(/\/interaction\/[^/]+\/abort/)[0]}`, {});
    assert.equal(gone.url.searchParams.get('error'), 'access_denied');
    assert.ok((await login_again(browser, { prompt: 'consent', scope: 'openid offline_access' })).refresh_token);
  });

  it('gives no stronger login, or none at all, when told so', async () => {
    await control('acr', { mode: 'ignored' });
    const browser = new Browser(issuer);
    assert.equal(payload((await login(browser, { acr_values: 'mfa' })).id_token).acr, 'pwd');
    assert.equal(payload((await login_again(browser, { acr_values: 'mfa' })).id_token).acr, 'pwd', 'no page, no loop');
    await control('acr', { mode: 'refused' });
    for (const at of [browser, new Browser(issuer)]) {
      const { url } = await at.go(authorize({ acr_values: 'mfa' }).url);
      assert.deepEqual(['error', 'state', 'code'].map((name) => url.searchParams.get(name)), ['unmet_authentication_requirements', 'st', null]);
    }
    // oidc-provider names the acr only to those who asked for one.
    assert.equal(payload((await login_again(browser)).id_token).acr, undefined, 'who asks for nothing is not refused');
    await control('reset', {});
    assert.equal(payload((await login(browser, { acr_values: 'mfa' })).id_token).acr, 'mfa');
    assert.equal((await fetch(`${issuer}/control/acr`, { method: 'POST', body: '{"mode":"sometimes"}' })).status, 400);
  });

  it('ends the whole grant when a used refresh token comes back', async () => {
    const browser = new Browser(issuer);
    const first = await login(browser);
    const second = await refresh(first);
    const third = await refresh(second);
    assert.ok(third.id_token && third.refresh_token !== second.refresh_token);
    assert.equal(await userinfo_status(third), 200);
    assert.equal((await refresh(first)).error, 'invalid_grant', 'used');
    assert.equal((await refresh(third)).error, 'invalid_grant', 'the newest one too');
    assert.equal(await userinfo_status(third), 401, 'and its access token');
  });

  it('revokes a refresh token with all that came of it', async () => {
    const browser = new Browser(issuer);
    const tokens = await login(browser);
    const revoked = await fetch(meta.revocation_endpoint, {
      method: 'POST',
      body: new URLSearchParams({ token: tokens.refresh_token, token_type_hint: 'refresh_token' }),
      headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    });
    assert.equal(revoked.status, 200);
    assert.equal((await refresh(tokens)).error, 'invalid_grant');
    assert.equal(await userinfo_status(tokens), 401);
  });

  it('counts, delays and fails the token endpoint by grant type', async () => {
    await control('reset', {});
    const browser = new Browser(issuer);
    const tokens = await login(browser);
    await control('delay', { endpoint: 'token:refresh_token', ms: 4000 });
    const began = Date.now();
    const [refreshed] = await Promise.all([refresh(tokens), login_again(browser).then(() => assert.ok(Date.now() - began < 3500, 'a login is not delayed'))]);
    assert.ok(refreshed.refresh_token && Date.now() - began >= 3990);
    await control('delay', { endpoint: 'token', ms: 300 });
    await control('fail', { endpoint: 'token:refresh_token', status: 500, times: 1 });
    assert.equal((await refresh(refreshed)).status, 500);
    await control('delay', { endpoint: 'token:refresh_token', ms: 0 });
    assert.ok((await refresh(refreshed)).refresh_token, 'what failed was not used');
    const counts = await control('counts');
    assert.deepEqual([counts.token, counts['token:authorization_code'], counts['token:refresh_token']], [5, 2, 3]);
    await control('reset', {});
  });

  it('gives tokens the lifetimes it is told', async () => {
    const other = start({ ...config, ttl: { AccessToken: 7, IdToken: 8, RefreshToken: 2 } });
    const { issuer: at } = await other.listening;
    const browser = new Browser(at);
    const { verifier, url } = authorize();
    const { html } = await browser.go(url.replace(issuer, at));
    const back = await browser.submit(html, { login: 'ada', password: 'pw' });
    const ask = async (form) => (await fetch(`${at}/token`, {
      method: 'POST', body: new URLSearchParams(form), headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    })).json();
    const tokens = await ask({ grant_type: 'authorization_code', code: back.url.searchParams.get('code'), redirect_uri: callback, code_verifier: verifier });
    const id = payload(tokens.id_token);
    assert.deepEqual([tokens.expires_in, id.exp - id.iat], [7, 8]);
    await new Promise((resolve) => { setTimeout(resolve, 2100); });
    assert.equal((await ask({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).error, 'invalid_grant', 'over');
    other.child.stdin.end();
  });

  it('answers by form_post and takes pushed requests', async () => {
    const browser = new Browser(issuer);
    await login(browser);
    const { html } = await browser.go(authorize({ response_mode: 'form_post' }).url);
    assert.match(html, new RegExp(`action="${callback}"[\\s\\S]*name="code"[\\s\\S]*name="state" value="st"[\\s\\S]*name="iss" value="${issuer}"`));

    const { url, verifier } = authorize();
    const pushed = await (await fetch(meta.pushed_authorization_request_endpoint, {
      method: 'POST', body: new URL(url).searchParams, headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    })).json();
    const back = await browser.go(`${meta.authorization_endpoint}?${new URLSearchParams({ client_id: 'app', request_uri: pushed.request_uri })}`);
    assert.equal(payload((await redeem(back, verifier)).id_token).sub, 'ada');
  });

  it('gives access tokens for resources, opaque ones that can be introspected and revoked', async () => {
    const machine = await token({ grant_type: 'client_credentials', resource: 'urn:orders', scope: 'orders:read' }, 'job');
    const jwt = payload(machine.access_token);
    assert.deepEqual([jwt.iss, jwt.aud, jwt.scope, jwt.client_id, jwt.exp - jwt.iat], [issuer, 'orders', 'orders:read', 'job', 60]);
    assert.equal(JSON.parse(Buffer.from(machine.access_token.split('.')[0], 'base64url')).typ, 'at+jwt');
    assert.equal((await token({ grant_type: 'client_credentials', resource: 'urn:none' }, 'job')).error, 'invalid_target');

    const browser = new Browser(issuer);
    const { verifier, url } = authorize({ resource: 'urn:orders', scope: 'openid orders:read' });
    const { html } = await browser.go(url);
    const user = await redeem(await browser.submit(html, { login: 'ada', password: 'pw' }), verifier, { resource: 'urn:orders' });
    assert.deepEqual(payload(user.access_token).groups, ['staff']);

    const opaque = await token({ grant_type: 'client_credentials', resource: 'urn:opaque', scope: 'opaque:read' }, 'job');
    const ask = async (endpoint) => fetch(endpoint, {
      method: 'POST', body: new URLSearchParams({ token: opaque.access_token }), headers: { authorization: `Basic ${Buffer.from('job:job-secret').toString('base64')}` },
    });
    const active = await (await ask(meta.introspection_endpoint)).json();
    assert.deepEqual([active.active, active.aud, active.scope, active.client_id], [true, 'opaque', 'opaque:read', 'job']);
    assert.equal((await ask(meta.revocation_endpoint)).status, 200);
    assert.deepEqual(await (await ask(meta.introspection_endpoint)).json(), { active: false });
  });

  it('tells relying parties of a logout', async () => {
    const told = [];
    const party = http.createServer(async (req, res) => {
      let body = '';
      for await (const chunk of req) body += chunk;
      told.push(new URLSearchParams(body).get('logout_token'));
      res.end();
    });
    await new Promise((resolve) => { party.listen(0, '127.0.0.1', resolve); });
    const uri = `http://127.0.0.1:${party.address().port}/`;
    const other = start({ ...config, clients: [{ ...config.clients[0], backchannel_logout_uri: uri, backchannel_logout_session_required: true }] });
    const { issuer: at } = await other.listening;
    const browser = new Browser(at);
    const tokens = async ({ url }, verifier) => (await fetch(`${at}/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'authorization_code', code: url.searchParams.get('code'), redirect_uri: callback, code_verifier: verifier }),
      headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    })).json();
    const { verifier, url } = authorize();
    const { html } = await browser.go(url.replace(issuer, at));
    const first = await tokens(await browser.submit(html, { login: 'ada', password: 'pw' }), verifier);
    const again = authorize();
    const second = await tokens(await browser.go(again.url.replace(issuer, at)), again.verifier);
    const refreshed = await (await fetch(`${at}/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: first.refresh_token }),
      headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    })).json();
    await browser.submit((await browser.go(`${at}/session/end`)).html);
    assert.equal(told.length, 1);
    const { sub, sid, events, aud, iat, exp, jti, nonce } = payload(told[0]);
    assert.deepEqual([sub, typeof sid, aud, Object.keys(events)], ['ada', 'string', 'app', ['http://schemas.openid.net/event/backchannel-logout']]);
    assert.deepEqual([first, second, refreshed].map(({ id_token }) => payload(id_token).sid), [sid, sid, sid], 'one session, one sid');
    assert.deepEqual([exp - iat, typeof jti, nonce], [120, 'string', undefined]);
    assert.equal(JSON.parse(Buffer.from(told[0].split('.')[0], 'base64url')).typ, 'logout+jwt');
    // Another session of the same person has another sid.
    const elsewhere = new Browser(at);
    const third = authorize();
    const page = await elsewhere.go(third.url.replace(issuer, at));
    assert.notEqual(payload((await tokens(await elsewhere.submit(page.html, { login: 'ada', password: 'pw' }), third.verifier)).id_token).sid, sid);
    party.close();
    other.child.stdin.end();
  });

  it('counts, delays and fails on demand', async () => {
    await control('reset', {});
    await control('fail', { endpoint: 'jwks', status: 503, times: 2 });
    await control('delay', { endpoint: 'discovery', ms: 300 });
    const status = async () => (await fetch(meta.jwks_uri)).status;
    assert.deepEqual([await status(), await status(), await status()], [503, 503, 200]);
    await control('fail', { endpoint: 'jwks', status: 0, times: 1 });
    await assert.rejects(fetch(meta.jwks_uri));
    const began = Date.now();
    await fetch(`${issuer}/.well-known/openid-configuration`);
    assert.ok(Date.now() - began >= 295);
    const counts = await control('counts');
    assert.deepEqual([counts.jwks, counts.discovery, counts.token], [4, 1, 0]);
    assert.equal((await fetch(`${issuer}/control/delay`, { method: 'POST', body: '{"endpoint":"nowhere","ms":1}' })).status, 400);
    await control('reset', {});
  });

  it('can be a provider without RFC 9207, at localhost, and ends on SIGTERM', async () => {
    const other = start({ ...config, host: 'localhost', response_iss: false, control: false, conform_id_token_claims: false });
    const { issuer: at, port } = await other.listening;
    assert.equal(at, `http://localhost:${port}`);
    const old = await (await fetch(`http://127.0.0.1:${port}/.well-known/openid-configuration`)).json();
    assert.ok(!('authorization_response_iss_parameter_supported' in old));
    assert.equal((await fetch(`http://127.0.0.1:${port}/control/counts`)).status, 404);
    const browser = new Browser(`http://127.0.0.1:${port}`);
    const { url, verifier } = authorize();
    const { html } = await browser.go(url.replace(issuer, browser.issuer));
    const back = await browser.submit(html, { login: 'ada', password: 'pw' });
    assert.deepEqual([...back.url.searchParams.keys()].sort(), ['code', 'state']);
    const post = await browser.go(authorize({ response_mode: 'form_post' }).url.replace(issuer, browser.issuer));
    assert.doesNotMatch(post.html, /name="iss"/);
    const tokens = await (await fetch(`${browser.issuer}/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'authorization_code', code: back.url.searchParams.get('code'), redirect_uri: callback, code_verifier: verifier }),
      headers: { authorization: `Basic ${Buffer.from('app:app-secret').toString('base64')}` },
    })).json();
    assert.deepEqual(payload(tokens.id_token).groups, ['staff'], 'claims in the ID token');
    const end = ended(other.child);
    other.child.kill('SIGTERM');
    assert.equal(await end, 0);
  });
});
