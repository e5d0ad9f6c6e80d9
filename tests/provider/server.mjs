// The OpenID provider of the tests: node server.mjs '<json>'
//
// Prints one line on stdout when it listens, {"issuer":"http://127.0.0.1:PORT","port":PORT}; everything else goes to stderr.
// Ends on SIGTERM, and when its stdin closes: give it a pipe, and a killed test leaves no orphan.
//
// The JSON, every key optional:
//   host        name in the issuer and address to bind (127.0.0.1); a name is bound at 127.0.0.1
//   port        0: any free one
//   tls         {cert_file, key_file}: PEM; the issuer is https then. With client_ca_file it asks for client certificates, and binds the tokens
//               of clients with tls_client_certificate_bound_access_tokens to them (RFC 8705)
//   clients     [..] oidc-provider's client metadata as is: client_id, client_secret, redirect_uris, grant_types, response_types,
//               token_endpoint_auth_method, post_logout_redirect_uris, backchannel_logout_uri, require_auth_time, ..
//   accounts    [{sub, password, claims: {email, groups, ..}}]; login by sub. Scopes email, profile and groups give the usual
//               claims; a claim that none of them names comes with profile
//   ttl         {AccessToken, AuthorizationCode, IdToken, RefreshToken, Session, Grant, Interaction, ClientCredentials: seconds}
//   response_iss            true: `iss` in the authorization response (RFC 9207), and discovery promises it
//   rotate_refresh          false: each refresh gives a new refresh token; a used one that comes back ends the grant
//   refresh                 "always": clients with grant type refresh_token get one; "offline_access": only with that scope
//   conform_id_token_claims true: claims of scopes only at userinfo; false: in the ID token too
//   acr_values              ["pwd", "mfa"]: the first is what a plain login is worth; a request for another one asks for a new login
//   pkce_required           true
//   dpop_nonce              false: true demands a DPoP nonce
//   resources   {"indicator-uri": {audience, scope, format: "jwt" | "opaque", ttl, claims: [account claims put in its JWTs]}}
//   default_resource        one of them: what a login asks for that names none, so that its access tokens are for it and not for userinfo
//   userinfo    true
//   scopes      [..] further scopes
//   control     false: true adds, for the test only,
//                 GET  /control/counts   how often each endpoint was asked, the token endpoint by grant type too:
//                                        {"token": 2, "token:refresh_token": 1, ..}; these names hold for delay and fail as well
//                 POST /control/reset    counts to 0, no delays, no failures, acr granted
//                 POST /control/delay    {endpoint, ms}: each answer that much later; 0 ends it
//                 POST /control/fail     {endpoint, status, times}: that status (0: the connection is closed) this often, then well again
//                 POST /control/acr      {mode}: what comes of `acr_values`. "granted"; "ignored": a login as plain as any, and
//                                        tokens say so; "refused": error=unmet_authentication_requirements at once, without a page
//
// Not to be had: front-channel logout, of which oidc-provider 8 knows nothing. ID tokens hold `sid` for clients with
// backchannel_logout_uri and backchannel_logout_session_required.
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as net from 'node:net';

// Stdout is for the one line; oidc-provider's notices are for people who configure a real one.
console.info = () => {};
console.log = console.error;
const { warn } = console;
const unwanted = ['oidc-provider WARNING: a quick start', 'oidc-provider WARNING: already parsed request body']; // the control reads bodies first
console.warn = (text, ...more) => unwanted.some((start) => String(text).startsWith(start)) || warn(text, ...more);

const [{ make_provider }, { make_interaction }, { make_control }] = await Promise.all([
  import('./provider.mjs'), import('./interaction.mjs'), import('./control.mjs'),
]);

const known = ['host', 'port', 'tls', 'clients', 'accounts', 'ttl', 'response_iss', 'rotate_refresh', 'refresh', 'conform_id_token_claims',
  'acr_values', 'pkce_required', 'dpop_nonce', 'resources', 'default_resource', 'userinfo', 'scopes', 'control'];
const config = JSON.parse(process.argv[2] ?? '{}');
const unknown = Object.keys(config).filter((key) => !known.includes(key));
if (unknown.length > 0) {
  console.error(`unknown keys: ${unknown.join(', ')}; known: ${known.join(', ')}`);
  process.exit(2);
}

process.on('SIGTERM', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

const host = config.host ?? '127.0.0.1';
const server = config.tls
  ? https.createServer({
    cert: fs.readFileSync(config.tls.cert_file),
    key: fs.readFileSync(config.tls.key_file),
    ...(config.tls.client_ca_file && { ca: fs.readFileSync(config.tls.client_ca_file), requestCert: true, rejectUnauthorized: false }),
  })
  : http.createServer();
server.on('error', (err) => { console.error(`cannot listen: ${err.message}`); process.exit(1); });

// The issuer holds the port, so listening comes first.
server.listen(config.port ?? 0, net.isIP(host) ? host : '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `${config.tls ? 'https' : 'http'}://${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
  const control = config.control ? make_control() : undefined;
  const made = make_provider(issuer, config, control?.acr);
  const interaction = make_interaction(made);
  const answer = made.provider.callback();

  server.on('request', async (req, res) => {
    const path = req.url.split('?', 1)[0];
    try {
      if (control && path.startsWith('/control/')) await control.handle(req, res, path);
      else if (control && await control.before(req, res, path)) return;
      else if (path.startsWith('/interaction/')) await interaction(req, res, path);
      else await answer(req, res);
    } catch (err) {
      console.error(err);
      res.destroy();
    }
  });
  process.stdout.write(`${JSON.stringify({ issuer, port })}\n`);
});
