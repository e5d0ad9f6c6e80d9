// What happens between the authorization request and its answer: the login form. Consent is given without a page.
import { error_page, login_page } from './pages.mjs';

export function make_interaction({ provider, accounts, acr_values, acr_mode }) {
  async function consent(req, res, { session, params, prompt: { details }, grantId }) {
    const grant = (grantId && await provider.Grant.find(grantId)) || new provider.Grant({ clientId: params.client_id, accountId: session.accountId });
    if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '));
    if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
    for (const [indicator, scopes] of Object.entries(details.missingResourceScopes ?? {})) grant.addResourceScope(indicator, scopes.join(' '));
    await provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
  }

  async function login(req, res, uid, params) {
    const form = await read_form(req);
    const account = accounts.get(form.get('login'));
    if (!account || account.password !== form.get('password')) {
      send(res, 401, login_page(uid, form.get('login'), 'Wrong login or password.'));
      return;
    }
    const asked = acr_mode() === 'granted' ? (params.acr_values ?? '').split(' ') : [];
    const acr = asked.find((value) => acr_values.includes(value)) ?? acr_values[0];
    await provider.interactionFinished(req, res, { login: { accountId: account.sub, acr, amr: [acr] } });
  }

  return async (req, res, path) => {
    const [, uid, action] = path.match(/^\/interaction\/([^/]+)(?:\/(login|abort))?$/) ?? [];
    try {
      const details = await provider.interactionDetails(req, res);
      if (details.uid !== uid) throw new Error('this interaction is not the one of the cookie');
      if (req.method === 'POST' && action === 'abort') {
        await provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'the user gave up' });
      } else if (req.method === 'POST' && action === 'login') {
        await login(req, res, uid, details.params);
      } else if (req.method !== 'GET' || action) {
        send(res, 405, error_page({ error: 'method not allowed' }));
      } else if (acr_mode() === 'refused' && details.prompt.reasons.includes('acr_values')) {
        // OpenID Connect Core Error Code unmet_authentication_requirements 1.0.
        const error = { error: 'unmet_authentication_requirements', error_description: 'no such login is to be had here' };
        await provider.interactionFinished(req, res, error);
      } else if (details.prompt.name === 'consent') {
        await consent(req, res, details);
      } else {
        send(res, 200, login_page(uid, details.params.login_hint));
      }
    } catch (err) {
      console.error(`interaction: ${err.error_description ?? err.message}`);
      send(res, 400, error_page({ error: err.message, error_description: err.error_description ?? 'start again at the application' }));
    }
  };
}

async function read_form(req) {
  return new URLSearchParams(await read_body(req));
}

export async function read_body(req) {
  let body = '';
  for await (const chunk of req.setEncoding('utf8')) {
    body += chunk;
    if (body.length > 65536) throw new Error('body too large');
  }
  return body;
}

function send(res, status, html) {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }).end(html);
}
