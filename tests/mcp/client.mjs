// A client of the official SDK that knows the address of an MCP server and its own registration, nothing else. Everything between the server's 401 and
// the call with a token is the SDK's doing.
//
//   node client.mjs '{"url": .., "issuer": .., "client_id": .., "client_secret": .., "scope": ..}'
//   node client.mjs '{"url": .., "issuer": .., "client_id": .., "redirect_uri": ..}'
//
// With a secret it is a program of its own (client credentials). Without one a person signs in, for the scopes that the resource names: it prints
// {"authorize": URL} and reads the code from the first line of its stdin. At the end it prints {"answer": what `whoami` said,
// "steps": ["METHOD URL STATUS", ..]}.
import { webcrypto } from 'node:crypto';
import * as readline from 'node:readline';

import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

globalThis.crypto ??= webcrypto; // Node 18 keeps it in its module

const config = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const steps = [];
async function noted(url, init) {
  const response = await fetch(url, init);
  steps.push(`${init?.method ?? 'GET'} ${url} ${response.status}`);
  return response;
}

/** What a person's client keeps; the SDK asks it for everything and decides the rest. */
class InMemory {
  redirectUrl = config.redirect_uri;
  clientMetadata = { client_name: 'test', redirect_uris: [config.redirect_uri], token_endpoint_auth_method: 'none' };
  clientInformation() { return { client_id: config.client_id, issuer: config.issuer }; }
  tokens() { return this.kept; }
  saveTokens(tokens) { this.kept = tokens; }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  redirectToAuthorization(url) { say({ authorize: url.href }); }
}

const authProvider = config.client_secret
  ? new ClientCredentialsProvider({ clientId: config.client_id, clientSecret: config.client_secret, scope: config.scope, expectedIssuer: config.issuer })
  : new InMemory();
const connect = async () => {
  const transport = new StreamableHTTPClientTransport(new URL(config.url), { authProvider, fetch: noted });
  const client = new Client({ name: 'doorward-test', version: '0.0.0' });
  try {
    await client.connect(transport);
    return client;
  } catch (err) {
    if (!(err instanceof UnauthorizedError) || config.client_secret) throw err;
    const [code] = await new Promise((resolve) => readline.createInterface(process.stdin).once('line', (line) => resolve([line])));
    await transport.finishAuth(code);
    return connect();
  }
};

const client = await connect();
const { content } = await client.callTool({ name: 'whoami' });
say({ answer: content[0].text, steps });
process.exit(0);
