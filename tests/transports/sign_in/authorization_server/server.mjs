// An authorization server for tests: node server.mjs MODULES
//
// MODULES is the folder node_modules with oidc-provider. Everybody who comes is Ada, and agrees to
// what is asked. It writes its address to stdout when it listens, and ends with its standard input.

import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules] = process.argv.slice(2);
const { Provider } = await import(
  pathToFileURL(join(modules, 'oidc-provider', 'lib', 'index.js')).href
);

// A client of this name gets tokens that only this server can read.
const OPAQUE = 'An opaque assistant';
// A client of this name may at first only read, whatever it asks for.
const CAREFUL = 'A careful assistant';
const seen = new Set();

// The document of a client that is named by an address (CIMD); nothing is fetched for it.
const CLIENT = 'https://assistant.example/client.json';
const DOCUMENT = {
  client_id: CLIENT,
  client_name: 'An assistant',
  redirect_uris: ['http://127.0.0.1:1/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
};

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  scopes: ['openid', 'offline_access', 'videos:read', 'videos:make'],
  clients: [
    {
      client_id: 'wan-mcp',
      client_secret: 'the-secret-of-the-server',
      redirect_uris: [],
      response_types: [],
      grant_types: [],
    },
  ],
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: () => true,
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  fetch: async (url, options) =>
    url.toString() === CLIENT ? Response.json(DOCUMENT) : fetch(url, options),
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource, client) => ({
        audience: resource,
        scope: 'videos:read videos:make',
        accessTokenFormat: client.clientName === OPAQUE ? 'opaque' : 'jwt',
        accessTokenTTL: 3600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const accountId = 'sub-ada';
  const { client_id: clientId, resource, scope } = details.params;
  const client = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId, clientId });
  grant.addOIDCScope(`openid offline_access ${scope}`);
  grant.addResourceScope(resource, scope);
  if (client.clientName === CAREFUL && !seen.has(clientId)) {
    grant.rejectResourceScope(resource, 'videos:make');
  }
  seen.add(clientId);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
  ctx.respond = false;
});

provider.on('server_error', (_ctx, error) => process.stderr.write(`${error.stack}\n`));
server.on('request', provider.callback());
process.stdin.on('end', () => process.exit(0)).resume();
process.stdout.write(`${issuer}\n`);
