import assert from "node:assert/strict";
import { createSign } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { isJsonObject } from "#json/json.ts";
import { run } from "#sandbox/command.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { privateRegistry, tokenRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster } from "#test/cluster.ts";
import { pullSecret } from "#test/pull-secrets.ts";

const report = (line: string): void => console.error(line);
const system = "coral-system";
const service = `coral-controller.${system}.svc`;
const [coral] = privateRegistry.logins;
const [anna] = tokenRegistry.logins;

describe("the credentials endpoint under attack", { timeout: 15 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;
  let address = "";
  let ca = "";
  /** Owed on node1 by an Image with a Secret. */
  let ours = "";
  /** Owed on node2 alone, by an Image of another namespace with another Secret. */
  let theirs = "";

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    const get = ["-n", system, "get"];
    const clusterIP = ["service", "coral-controller", "-o", "jsonpath={.spec.clusterIP}"];
    address = (await sandbox.kubectl([...get, ...clusterIP], scope)).stdout;
    const bundle = ["configmap", "coral-ca", "-o", String.raw`jsonpath={.data.ca\.crt}`];
    ca = (await sandbox.kubectl([...get, ...bundle], scope)).stdout;
    ours = await owe("ours", "node1", `${privateRegistry.host}/ours/app:1`, {
      [privateRegistry.host]: coral,
    });
    theirs = await owe("theirs", "node2", `${tokenRegistry.host}/team-a/app:1`, {
      [tokenRegistry.host]: anna,
    });
    const token = await agentToken("node1");
    const answers = async (): Promise<boolean> =>
      (await ask(token, { references: [ours] })).status === 200;
    await waitFor(answers, { what: "the endpoint to answer", everyMs: 500, signal });
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  /** Makes a namespace with a Secret and an Image that has the node pull one image, and waits for the plan. */
  async function owe(
    namespace: string,
    node: string,
    reference: string,
    logins: Parameters<typeof pullSecret>[1],
  ): Promise<string> {
    const folder = await ensureSmallVariant(90, sandbox.programs, scope);
    await sandbox.push(folder, reference, scope);
    await sandbox.kubectl(["create", "namespace", namespace], scope);
    await cluster.apply(pullSecret({ namespace, name: "login" }, logins), scope);
    const colon = reference.lastIndexOf(":");
    const repository = { name: reference.slice(0, colon), tags: [reference.slice(colon + 1)] };
    const selector = [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }];
    const imagePullSecrets = [{ name: "login" }];
    const spec = { repositories: [repository], imagePullSecrets, selector, maxConcurrentNodes: 1 };
    const metadata = { namespace, name: "app" };
    await cluster.apply({ apiVersion: "stvz.io/v1", kind: "Image", metadata, spec }, scope);
    const plan = ["-n", namespace, "get", "imageplans.stvz.io", "app"];
    await waitFor(() => sandbox.kubectl(plan, scope), { what: "the plan of the Image", signal });
    return reference;
  }

  async function agentPodOn(node: string): Promise<string> {
    const selector = "app.kubernetes.io/component=agent";
    const query = ["-n", system, "get", "pods", "-l", selector, "-o", "name"];
    const field = ["--field-selector", `spec.nodeName=${node}`];
    return (await sandbox.kubectl([...query, ...field], scope)).stdout.trim().replace("pod/", "");
  }

  async function tokenOf(
    account: string,
    { namespace = system, pod, audience = "coral" }: TokenOptions = {},
  ): Promise<string> {
    const bound = pod ? ["--bound-object-kind", "Pod", "--bound-object-name", pod] : [];
    const audiences = audience ? ["--audience", audience] : [];
    const create = ["-n", namespace, "create", "token", account, ...audiences, ...bound];
    return (await sandbox.kubectl(create, scope)).stdout.trim();
  }

  /** As the agent's pod on a node has it. */
  async function agentToken(node: string): Promise<string> {
    return tokenOf("coral-agent", { pod: await agentPodOn(node) });
  }

  /** Asks the controller from inside the cluster's network. */
  async function ask(
    token: string | undefined,
    body: unknown,
    path = "/v1/credentials",
  ): Promise<Answer> {
    const request = { address, ca, service, path, token, body: JSON.stringify(body) };
    const argv = [process.execPath, "--input-type=module", "-e", askProgram];
    const { stdout } = await sandbox.exec(argv, { input: JSON.stringify(request), signal });
    const answer: unknown = JSON.parse(stdout);
    assert.ok(isJsonObject(answer));
    return { status: Number(answer["status"]), text: String(answer["text"]) };
  }

  /** Asks for a slot of the Image that is for node2 alone, and where one node may pull at a time. */
  async function slot(token?: string): Promise<Answer> {
    const body = { want: ["theirs/app"], hold: ["theirs/app"], sequence: Date.now() };
    return ask(token, body, "/v1/slots");
  }

  async function refuses(token: string | undefined, statuses: readonly number[]): Promise<void> {
    const answer = await ask(token, { references: [ours, theirs] });
    assert.ok(statuses.includes(answer.status), JSON.stringify(answer));
    assert.doesNotMatch(answer.text, secretWords);
  }

  test("an agent gets the login of what its own node owes", async () => {
    const answer = await ask(await agentToken("node1"), { references: [ours] });

    assert.deepEqual(JSON.parse(answer.text), {
      logins: [{ reference: ours, registry: privateRegistry.host, login: coral }],
    });
  });

  test("it gets no login of another namespace whose Image is for another node", async () => {
    const { text } = await ask(await agentToken("node1"), { references: [theirs] });
    assert.doesNotMatch(text, secretWords);
    const own = await ask(await agentToken("node2"), { references: [theirs] });
    assert.match(own.text, secretWords);
  });

  test("it gets no login for a reference that nobody asks for, however near to one that is", async () => {
    const token = await agentToken("node1");
    for (const reference of [
      `${privateRegistry.host}/ours/app:2`,
      `${privateRegistry.host}/ours/app`,
      `${privateRegistry.host}/ours/app/sub:1`,
      `${privateRegistry.host}/other:1`,
      `${ours}@sha256:${"0".repeat(64)}`,
      "private.test/ours/app:1",
      "",
      "*",
    ]) {
      const { text } = await ask(token, { references: [reference] });
      assert.doesNotMatch(text, secretWords, reference);
    }
  });

  test("a request without a token, or with something else, is refused", async () => {
    await refuses(undefined, [401]);
    await refuses("", [401]);
    await refuses("abc", [401]);
    await refuses("x".repeat(20_000), [400, 401, 431]);
  });

  test("a pod of somebody else is refused, whatever audience its token has", async () => {
    const pod = "thief";
    const containers = [{ name: "main", image: Sandbox.images.small }];
    const spec = { nodeName: "node1", terminationGracePeriodSeconds: 0, containers };
    const metadata = { name: pod, namespace: "default" };
    await cluster.apply({ apiVersion: "v1", kind: "Pod", metadata, spec }, scope);

    await refuses(await tokenOf("default", { namespace: "default", pod }), [403]);
    await refuses(await tokenOf("coral-controller"), [403]);
    await sandbox.kubectl(["-n", "default", "create", "serviceaccount", "coral-agent"], scope);
    await refuses(await tokenOf("coral-agent", { namespace: "default" }), [403]);
  });

  test("the agent's own token for the API server is refused, and one for another service", async () => {
    const pod = await agentPodOn("node1");
    await refuses(await tokenOf("coral-agent", { pod, audience: "" }), [401]);
    await refuses(await tokenOf("coral-agent", { pod, audience: "vault" }), [401]);
  });

  test("the agent's token for the controller opens nothing at the API server", async () => {
    const { server, ca: serverCa = "" } = await sandbox.clusterConfig();
    const url = new URL("/apis/stvz.io/v1/imageplans", server);
    const request = {
      address: url.hostname,
      port: Number(url.port),
      ca: serverCa,
      service: "kubernetes",
      path: url.pathname,
      method: "GET",
      token: await agentToken("node1"),
    };
    const argv = [process.execPath, "--input-type=module", "-e", askProgram];
    const { stdout } = await run(argv, { input: JSON.stringify(request), signal });
    assert.match(stdout, /"status":401/);
  });

  test("an agent's token that is bound to no pod, and so to no node, is refused", async () => {
    await refuses(await tokenOf("coral-agent"), [403]);
  });

  test("an expired token is refused, and one that somebody else has signed", async () => {
    const claims = claimsOf(await agentToken("node1"));
    const now = Math.floor(Date.now() / 1000);
    const key = await readFile(join(sandbox.layout.pki, "sa.key"), "utf8");
    const sign = (changes: Record<string, number>): Promise<string> =>
      signAgain(sandbox, { ...claims, ...changes }, key);

    // The same way of signing makes a good token: what is refused below is refused for its time.
    const fresh = await ask(await sign({ iat: now, nbf: now, exp: now + 600 }), {
      references: [ours],
    });
    assert.equal(fresh.status, 200, fresh.text);
    await refuses(await sign({ iat: now - 1200, nbf: now - 1200, exp: now - 600 }), [401]);
    const [head = "", payload = ""] = (await agentToken("node1")).split(".");
    await refuses(`${head}.${payload}.${Buffer.alloc(256).toString("base64url")}`, [401]);
  });

  test("the token of an agent's pod that is gone is refused", async () => {
    const pod = await agentPodOn("node2");
    const token = await tokenOf("coral-agent", { pod });
    await sandbox.kubectl(["-n", system, "delete", "pod", pod], scope);
    // It may take the API server a moment to hear of it.
    const isRefused = async (): Promise<boolean> =>
      (await ask(token, { references: [theirs] })).status === 401;
    const what = "the token to be refused";
    await waitFor(isRefused, { what, timeoutMs: 180_000, everyMs: 1_000, signal });
  });

  test("a body that is too large, or no list of references, is refused", async () => {
    const token = await agentToken("node1");
    const statusOf = async (body: unknown): Promise<number> => (await ask(token, body)).status;

    assert.equal(await statusOf({ references: ["x".repeat(2_000_000)] }), 413);
    for (const body of [{}, [], null, { references: ours }, { references: [1] }]) {
      assert.equal(await statusOf(body), 400, JSON.stringify(body));
    }
    assert.ok([400, 413].includes(await statusOf({ references: manyReferences() })));
    assert.equal(await statusOf({ references: [ours] }), 200);
  });

  test("a slot is given to agents alone, and none of an Image for other nodes is taken from them", async () => {
    assert.equal((await slot()).status, 401);
    assert.equal((await slot(await tokenOf("coral-controller"))).status, 403);
    // A leader that is new grants nothing for a while: it does not know yet what is held.
    const [thief, owner] = [await agentToken("node1"), await agentToken("node2")];
    const isGranted = async (): Promise<boolean> => {
      assert.equal((await slot(thief)).status, 200); // Again and again, as who holds one does.
      return /"granted":true/.test((await slot(owner)).text);
    };
    await waitFor(isGranted, { what: "the slot", timeoutMs: 180_000, everyMs: 2_000, signal });
  });

  test("after all of this the controllers run as before, and their logs hold no login", async () => {
    const selector = ["-l", "app.kubernetes.io/component=controller"];
    const restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    const get = ["-n", system, "get", "pods", ...selector, "-o", restarts];
    assert.match((await sandbox.kubectl(get, scope)).stdout, /^0( 0)*$/);
    const logs = ["-n", system, "logs", ...selector, "--tail=-1"];
    const { stdout } = await sandbox.kubectl(logs, scope);
    assert.doesNotMatch(stdout, secretWords);
    assert.doesNotMatch(stdout, /eyJ[\w-]+\.eyJ/, "nor a token");
    assert.equal((await ask(await agentToken("node1"), { references: [ours] })).status, 200);
  });
});

interface TokenOptions {
  namespace?: string;
  /** The pod that the token is bound to. */
  pod?: string;
  /** Empty for the API server's own. */
  audience?: string;
}

interface Answer {
  status: number;
  text: string;
}

/** What no answer to a thief may hold. */
const secretWords = new RegExp([coral.password, anna.password, anna.identityToken].join("|"));

/** More references than an agent of any Image asks for at once. */
function manyReferences(): string[] {
  return Array.from({ length: 100_000 }, (_, index) => `${tokenRegistry.host}/x:${index}`);
}

/** Reads a request from its standard input, sends it, and prints the answer. */
const askProgram = `
  import { request } from "node:https";
  import { json, text } from "node:stream/consumers";
  const { address, port = 443, ca, service, path, method = "POST", token, body = "" } = await json(process.stdin);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  if (token !== undefined) headers.authorization = "Bearer " + token;
  const options = { host: address, port, ca, servername: service, path, method, headers, timeout: 20_000 };
  const call = request(options, async (answer) => {
    console.log(JSON.stringify({ status: answer.statusCode, text: await text(answer) }));
    process.exit();
  });
  call.on("error", (error) => { console.log(JSON.stringify({ status: 0, text: String(error) })); process.exit(); });
  call.end(body);`;

function claimsOf(token: string): Record<string, unknown> {
  const claims: unknown = JSON.parse(
    Buffer.from(token.split(".")[1] ?? "", "base64url").toString(),
  );
  assert.ok(isJsonObject(claims));
  return { ...claims };
}

/** Signs claims as the API server does, with its own key. */
async function signAgain(
  sandbox: Sandbox,
  claims: Record<string, unknown>,
  key: string,
): Promise<string> {
  const signal = AbortSignal.timeout(10_000);
  const create = ["-n", "default", "create", "token", "default"];
  const [head = ""] = (await sandbox.kubectl(create, { signal })).stdout.split(".");
  const payload = Buffer.from(JSON.stringify(claims)).toString("base64url");
  const signature = createSign("sha256").update(`${head}.${payload}`).sign(key, "base64url");
  return `${head}.${payload}.${signature}`;
}
