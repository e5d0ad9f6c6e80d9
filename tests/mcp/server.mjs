// The app behind the gateway: a Model Context Protocol server of the official SDK, over streamable HTTP and without sessions.
//
//   node server.mjs
//
// Prints one line when it listens, {"port":PORT}. Its one tool, `whoami`, tells what the gateway said of the caller. GET /seen, asked directly, gives
// the headers of every request so far. Ends on SIGTERM, and when its stdin closes.
import { webcrypto } from 'node:crypto';
import * as http from 'node:http';

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

globalThis.crypto ??= webcrypto; // Node 18 keeps it in its module

process.on('SIGTERM', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

const seen = [];

function make_server() {
  const server = new McpServer({ name: 'doorward-test', version: '0.0.0' });
  server.registerTool('whoami', { description: 'Who the gateway says that you are.' }, ({ requestInfo }) => ({
    content: [{ type: 'text', text: String(requestInfo?.headers['x-forwarded-user']) }],
  }));
  return server;
}

const server = http.createServer(async (req, res) => {
  if (req.url === '/seen') {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify(seen));
    return;
  }
  seen.push({ method: req.method, url: req.url, headers: req.headers });
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  res.on('close', () => transport.close());
  await make_server().connect(transport);
  await transport.handleRequest(req, res);
});

server.listen(0, '127.0.0.1', () => process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`));
