// The token registry's realm: answers who may do what there, as the Docker token specification and
// OAuth 2 say. It reads its logins anew for each request, so that tests can change them.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";

import { controlPlaneAddress } from "#sandbox/layout.ts";
import { parseLogins } from "#sandbox/logins.ts";
import { tokenRealm } from "#sandbox/registry-hosts.ts";
import { loginOfForm, loginOfHeader } from "#sandbox/upstream/login.ts";
import { findLogin, grantedAccess, parseScope } from "./grant.ts";
import { signToken, tokenLifetimeSeconds } from "./token.ts";

const [, , keyFile, loginsFile] = process.argv;
if (!keyFile || !loginsFile) throw new Error("Usage: main.ts KEY_FILE LOGINS_FILE");

const keyPem = await readFile(keyFile, "utf8");
const logins = loginsFile;
const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    console.error(error);
    response.writeHead(500).end();
  });
});
await once(server.listen(tokenRealm.backendPort, controlPlaneAddress), "listening");

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const isPost = request.method === "POST";
  const query = new URL(request.url ?? "/", "http://realm").searchParams;
  const parameters = isPost ? new URLSearchParams(await text(request)) : query;
  const sent = isPost ? loginOfForm(parameters) : loginOfHeader(request.headers.authorization);
  const login = sent && findLogin(sent, parseLogins(await readFile(logins, "utf8")));
  if (sent && !login) {
    const error = { code: "UNAUTHORIZED", message: "incorrect username or password" };
    send(response, 401, { errors: [error] });
    return;
  }
  const asked = parseScope(parameters.getAll("scope").join(" "));
  // Who says nothing gets a token that opens nothing: the registry then says what is missing.
  const access = login ? grantedAccess(asked, login) : [];
  const time = new Date();
  const token = signToken(keyPem, { access, subject: login?.username ?? "", time });
  send(response, 200, {
    ...(!isPost && { token }),
    access_token: token,
    expires_in: tokenLifetimeSeconds,
    issued_at: time.toISOString(),
  });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
