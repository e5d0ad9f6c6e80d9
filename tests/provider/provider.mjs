// The provider's configuration: what the tests' JSON says, in oidc-provider's words.
//
// oidc-provider 8.8.1 and not 9: release 9 wants Node 22, and its jose 6 fails on Node 18 (no global `crypto`), which is
// what apt gives on Debian 12. Release 8 names Node 18 as its floor, is plain JavaScript without install scripts and runs
// unchanged on 18, 20 and later. Fetching a Node 22 for the newer release would make every test run depend on a
// 100 MB binary per architecture. All that the gateway is tested against is in both: code + PKCE, form_post, RFC 9207, PAR,
// DPoP, resource indicators, introspection, revocation, RP-initiated and back-channel logout.
import * as crypto from 'node:crypto';

import { Provider, errors, interactionPolicy } from 'oidc-provider';

import { error_page, logged_out_page, logout_page } from './pages.mjs';

const scope_claims = {
  openid: ['sub'],
  email: ['email', 'email_verified'],
  profile: ['name', 'preferred_username'],
  groups: ['groups'],
};

/** Where oidc-provider answers what; the names are those of `/control/`. */
export const endpoints = {
  discovery: '/.well-known/openid-configuration',
  jwks: '/jwks',
  authorization: '/auth',
  pushed_authorization_request: '/request',
  token: '/token',
  userinfo: '/me',
  introspection: '/token/introspection',
  revocation: '/token/revocation',
  end_session: '/session/end',
};

export function make_provider(issuer, config, acr_mode = () => 'granted') {
  const accounts = new Map((config.accounts ?? []).map((account) => [account.sub, account]));
  const resources = config.resources ?? {};
  // What a login without `acr_values` is worth, then what may be asked for.
  const acr_values = config.acr_values ?? ['pwd', 'mfa'];

  const provider = new Provider(issuer, {
    acrValues: acr_values,
    claims: claims_by_scope(config),
    clients: config.clients ?? [],
    conformIdTokenClaims: config.conform_id_token_claims ?? true,
    cookies: cookies(issuer),
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      dPoP: {
        enabled: true,
        nonceSecret: crypto.randomBytes(32),
        requireNonce: () => config.dpop_nonce === true,
      },
      introspection: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: config.tls?.client_ca_file !== undefined,
        certificateBoundAccessTokens: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      },
      pushedAuthorizationRequests: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, indicator) => resource_server(resources, indicator),
        ...(config.default_resource && { defaultResource: () => config.default_resource, useGrantedResource: () => true }),
      },
      revocation: { enabled: true },
      userinfo: { enabled: config.userinfo ?? true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => { ctx.body = logout_page(form); },
        postLogoutSuccessSource: (ctx) => { ctx.body = logged_out_page(); },
      },
    },
    extraTokenClaims: (_ctx, token) => {
      const claims = accounts.get(token.accountId)?.claims ?? {};
      const wanted = resources[token.resourceServer?.identifier()]?.claims ?? [];
      return Object.fromEntries(wanted.filter((name) => name in claims).map((name) => [name, claims[name]]));
    },
    findAccount: (_ctx, sub) => accounts.has(sub) && {
      accountId: sub,
      claims: () => ({ ...accounts.get(sub).claims, sub }),
    },
    interactions: { policy: policy(acr_values, acr_mode), url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    // As Keycloak and others do: a client that may refresh gets a refresh token. oidc-provider's own rule, the strict one
    // of OpenID Connect Core §11, is `"refresh": "offline_access"`; it wants the scope and `prompt=consent`.
    issueRefreshToken: (_ctx, client, code) => client.grantTypeAllowed('refresh_token')
      && (config.refresh !== 'offline_access' || code.scopes.has('offline_access')),
    jwks: { keys: signing_keys() },
    loadExistingGrant: (ctx) => grant_everything(ctx),
    pkce: { methods: ['S256'], required: () => config.pkce_required ?? true },
    renderError: (ctx, out) => { ctx.type = 'html'; ctx.body = error_page(out); },
    rotateRefreshToken: config.rotate_refresh ?? false,
    routes: Object.fromEntries(Object.entries(endpoints).filter(([name]) => name !== 'discovery')),
    scopes: ['openid', 'offline_access', 'email', 'profile', 'groups', ...(config.scopes ?? [])],
    ttl: {
      AuthorizationCode: 60,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 3600,
      RefreshToken: 86400,
      Session: 86400,
      ...config.ttl,
      // A function, so that a resource's own ttl wins.
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? config.ttl?.AccessToken ?? 3600,
      ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? config.ttl?.ClientCredentials ?? 600,
    },
  });

  if (config.response_iss === false) provider.use(without_response_iss);
  provider.on('server_error', (_ctx, err) => console.error(err));
  for (const event of ['authorization.error', 'grant.error', 'userinfo.error', 'pushed_authorization_request.error',
    'introspection.error', 'revocation.error', 'end_session.error', 'end_session_confirm.error', 'backchannel.error']) {
    provider.on(event, (_ctx, err) => {
      console.error(`${event}: ${err.error_description ?? err.message}${err.error_detail ? ` (${err.error_detail})` : ''}`);
    });
  }
  return { provider, accounts, acr_values, acr_mode };
}

/** A claim of an account that no standard scope names comes with `profile`, so that tests may invent claims. */
function claims_by_scope(config) {
  const known = new Set(Object.values(scope_claims).flat());
  const invented = (config.accounts ?? []).flatMap((account) => Object.keys(account.claims ?? {})).filter((name) => !known.has(name));
  return { ...scope_claims, profile: [...new Set([...scope_claims.profile, ...invented])] };
}

/** Browsers keep cookies by host and not by port: two providers on one host must not overwrite each other's. */
function cookies(issuer) {
  const { port, protocol } = new URL(issuer);
  return {
    names: { session: `_session_${port}`, interaction: `_interaction_${port}`, resume: `_resume_${port}` },
    keys: [crypto.randomBytes(32).toString('base64url')],
    // SameSite=None needs Secure, which plain HTTP cannot have.
    long: { httpOnly: true, sameSite: protocol === 'https:' ? 'none' : 'lax' },
    short: { httpOnly: true, sameSite: 'lax' },
  };
}

/** Fresh keys at each start: a provider started again on the same port is one whose keys were rotated. */
function signing_keys() {
  return [
    ['RS256', 'rsa', { modulusLength: 2048 }],
    ['ES256', 'ec', { namedCurve: 'P-256' }],
    ['EdDSA', 'ed25519', {}],
  ].map(([alg, type, options]) => ({
    ...crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: `${alg}-${crypto.randomBytes(6).toString('hex')}`,
  }));
}

function resource_server(resources, indicator) {
  const resource = resources[indicator];
  if (!resource) throw new errors.InvalidTarget();
  return {
    audience: resource.audience ?? indicator,
    scope: resource.scope ?? '',
    accessTokenFormat: resource.format ?? 'jwt',
    accessTokenTTL: resource.ttl,
    jwt: { sign: { alg: 'RS256' } },
  };
}

/** `acr_values` counts (RFC 9470): a session that is worth less logs in again, unless nothing asked for can be had here. */
function policy(acr_values, acr_mode) {
  const prompts = interactionPolicy.base();
  const { Check } = interactionPolicy;
  prompts.get('login').checks.add(new Check('acr_values', 'a stronger login is asked for', (ctx) => {
    if (acr_mode() === 'ignored') return false;
    const asked = (ctx.oidc.params.acr_values ?? '').split(' ').filter((value) => acr_values.includes(value));
    return asked.length > 0 && !asked.includes(ctx.oidc.acr);
  }));
  return prompts;
}

/** Consent is never asked for: whatever a client requests is granted on the spot. */
async function grant_everything(ctx) {
  const { client, session, provider, requestParamScopes, resourceServers } = ctx.oidc;
  const id = ctx.oidc.result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  const grant = (id && await provider.Grant.find(id)) || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  // A grant of somebody else who sat at this browser before is not extended.
  if (grant.accountId !== session.accountId) return undefined;
  const scope = [...requestParamScopes].join(' ');
  grant.addOIDCScope(scope);
  for (const indicator of Object.keys(resourceServers ?? {})) grant.addResourceScope(indicator, scope);
  await grant.save();
  return grant;
}

/** For providers older than RFC 9207: oidc-provider itself always sends `iss`. */
async function without_response_iss(ctx, next) {
  await next();
  const location = ctx.response.get('location');
  if (location) ctx.set('location', location.replace(/([?&#])iss=[^&#]*&?/, '$1').replace(/[?&#]$/, ''));
  if (typeof ctx.body === 'string') ctx.body = ctx.body.replace(/<input type="hidden" name="iss" value="[^"]*"\/>/, '');
  if (ctx.path === endpoints.discovery) ctx.body = { ...ctx.body, authorization_response_iss_parameter_supported: undefined };
}
