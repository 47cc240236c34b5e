import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { runAnnotation } from "#api/v1/mirror.ts";
import { secrets } from "#kube/resource.ts";
import { readAuditLog } from "#sandbox/audit-log.ts";
import { CommandError } from "#sandbox/command.ts";
import { installCoral } from "#sandbox/install-coral.ts";
import { repositoryRoot } from "#sandbox/paths.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { Cluster } from "#test/cluster.ts";

const report = (line: string): void => console.error(line);
const namespace = "coral-system";
const controllers = ["-n", namespace, "-l", "app.kubernetes.io/component=controller"];

describe("admission on a real cluster", { timeout: 15 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    await isRefused(30_000);
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  /** What kubectl says when it applies an Image, be it let in or not. */
  async function apply(name: string, spec: unknown, ...flags: string[]): Promise<string> {
    return applyObject("Image", { name }, spec, ...flags);
  }

  async function applyMirror(name: string, spec: object, annotations = {}): Promise<string> {
    return applyObject("Mirror", { name, annotations }, { registry: "mirror.test", ...spec });
  }

  async function applyObject(
    kind: string,
    named: object,
    spec: unknown,
    ...flags: string[]
  ): Promise<string> {
    const metadata = { namespace: "default", ...named };
    const input = JSON.stringify({ apiVersion: "stvz.io/v1", kind, metadata, spec });
    try {
      const args = ["apply", ...flags, "-f", "-"];
      const { stdout, stderr } = await sandbox.kubectl(args, { input, signal });
      return stdout + stderr;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return error.stderr;
    }
  }

  /** Whether somebody may do something in a namespace. */
  async function may(user: string, verb: string, resource: string, sub = ""): Promise<boolean> {
    const what = [verb, `${resource}.stvz.io`, "--subresource", sub, "-n", "default"];
    try {
      await sandbox.kubectl(["auth", "can-i", ...what, "--as", user], scope);
      return true;
    } catch (error) {
      if (!(error instanceof CommandError && error.stdout.startsWith("no"))) throw error;
      return false;
    }
  }

  const repositories = [
    { name: "debian", tags: ["bookworm"] },
    { name: "docker.io/library/debian", tags: ["trixie", "bookworm"] },
  ];

  /** Waits until a replica refuses what only the webhook can. */
  async function isRefused(timeoutMs: number): Promise<void> {
    let said = "";
    const look = async (): Promise<boolean> => {
      said = await apply("refused", { repositories }, "--dry-run=server");
      return said.includes('The Image "refused" is invalid');
    };
    const what = "the webhook to refuse";
    await waitFor(look, { what, everyMs: 200, timeoutMs, explain: () => said, signal });
  }

  test("all faults of an Image are told at once, each with its field, its value and what was expected", async () => {
    const filter = { include: ["v(?=1)", "v.*"], semver: "newest", newest: 3 };
    const all = { name: "registry.test:5000/app", listSelection: "all", filter };
    const imagePullSecrets = [{ name: "My_Login" }];
    const said = await apply("bad", { repositories: [...repositories, all], imagePullSecrets });

    for (const line of [
      /^\* spec\.repositories\[1\]\.tags\[1\]: Duplicate value: "bookworm": must not ask for docker\.io\/library\/debian:bookworm again, as spec\.repositories\[0\]\.tags\[0\] does$/m,
      /^\* spec\.repositories\[2\]\.filter\.include\[0\]: Invalid value: "v\(\?=1\)": must be a regular expression in RE2's syntax/m,
      /^\* spec\.repositories\[2\]\.filter\.semver: Invalid value: "newest": must be a range of versions/m,
      /^\* spec\.imagePullSecrets\[0\]\.name: Invalid value: "My_Login": must be the name of a Secret/m,
    ]) {
      assert.match(said, line);
    }
    assert.equal(await cluster.image("bad", scope), undefined);
  });

  test("what the rules refuse is told by them", async () => {
    const said = await apply("upper", { repositories: [{ name: "UPPER/case", tags: ["1"] }] });

    assert.match(said, /spec\.repositories\[0\]\.name/);
    assert.doesNotMatch(said, /admission webhook/);
  });

  test("a tag that moves is let in with a warning", async () => {
    const moving = [{ name: "registry.test:5000/app", tags: ["latest"] }];
    const said = await apply("moving", { selector: nowhere, repositories: moving });

    assert.match(said, /image\.stvz\.io\/moving created/);
    assert.match(
      said,
      /^Warning: spec\.repositories\[0\]\.tags\[0\]: "registry\.test:5000\/app:latest" is moved/m,
    );
    await cluster.forget("moving", scope);
  });

  /** Never copied: `suspend` keeps workers from it. */
  const collidingMirror = {
    suspend: true,
    destination: "{name}",
    repositories: [
      { name: "ghcr.io/a/app", tags: ["1"] },
      { name: "quay.io/b/app", tags: ["1"] },
    ],
  };

  test("all faults of a Mirror are told at once", async () => {
    const said = await applyMirror("bad", {
      ...collidingMirror,
      pushSecret: { name: "My_Login" },
      schedule: "61 3 * * *",
      timeZone: "Berlin",
    });

    for (const line of [
      /^\* spec\.repositories\[1\]\.name: Invalid value: "quay\.io\/b\/app": must not be copied to mirror\.test\/app, as ghcr\.io\/a\/app is: change spec\.destination, which is "\{name\}"$/m,
      /^\* spec\.pushSecret\.name: Invalid value: "My_Login": must be the name of a Secret/m,
      /^\* spec\.schedule: Invalid value: "61 3 \* \* \*": must have as its minute "\*", 0 to 59/m,
      /^\* spec\.timeZone: Invalid value: "Berlin": must be the name of a time zone/m,
    ]) {
      assert.match(said, line);
    }
  });

  test("a Mirror in order is let in, with warnings, and asked for a run", async () => {
    const repositories = [{ name: "registry.test:5000/app", tags: ["latest"] }];
    const tls = { plainHTTP: true };
    const spec = { suspend: true, repositories, tls, platforms: ["linux/amd64"] };
    const said = await applyMirror("warned", spec);

    assert.match(said, /mirror\.stvz\.io\/warned created/);
    assert.match(said, /^Warning: spec\.tls\.plainHTTP: /m);
    assert.match(said, /^Warning: spec\.platforms: /m);
    assert.doesNotMatch(said, /latest/);
    assert.match(await applyMirror("warned", spec, { [runAnnotation]: "now" }), /configured/);
    const tooLong = await applyMirror("warned", spec, { [runAnnotation]: "x".repeat(257) });
    assert.match(tooLong, /must have at most 256 characters/);
    await sandbox.kubectl(["delete", "mirror.stvz.io", "warned"], scope);
  });

  test("the roles of a namespace let people ask for Mirrors, or look at them alone", async () => {
    for (const role of ["view", "edit"]) {
      const bind = ["create", "rolebinding", role, "--clusterrole", role, "--user", role];
      await sandbox.kubectl([...bind, "-n", "default"], scope);
    }
    const isAggregated = async (): Promise<boolean> => may("edit", "create", "mirrors");
    await waitFor(isAggregated, { what: "the roles to be aggregated", signal });

    assert.equal(await may("view", "list", "mirrors"), true);
    assert.equal(await may("view", "create", "mirrors"), false);
    assert.equal(await may("edit", "update", "mirrors", "status"), false);
    assert.equal(await may("edit", "patch", "mirrorshards"), false);
  });

  test("an Image or Mirror with a fault from before can be changed, but not be made worse", async () => {
    const webhooks = join(repositoryRoot, "deploy/webhooks.yaml");
    await sandbox.kubectl(["delete", "validatingwebhookconfiguration", "coral-validation"], scope);
    const old = { selector: nowhere, repositories };
    const isIn = async (): Promise<boolean> => (await apply("old", old)).includes("created");
    await waitFor(isIn, { what: "an Image with a fault to be let in", signal });
    assert.match(await applyMirror("old", collidingMirror), /created/);
    await sandbox.kubectl(["apply", "--server-side", "-f", webhooks], scope);
    await isRefused(30_000);

    assert.match(await apply("old", { ...old, priority: 5 }), /configured/);
    const worse = [...repositories, { name: "library/debian", tags: ["trixie"] }];
    assert.match(
      await apply("old", { ...old, repositories: worse }),
      /repositories\[2\]\.tags\[0\]: Duplicate/,
    );
    await sandbox.kubectl(["annotate", "image.stvz.io", "old", "a=b"], scope);
    await cluster.forget("old", scope);
    assert.match(await applyMirror("old", { ...collidingMirror, interval: "2h" }), /configured/);
    assert.match(
      await applyMirror("old", { ...collidingMirror, interval: "1s" }),
      /spec\.interval: Invalid value: "1s"/,
    );
    await sandbox.kubectl(["annotate", "mirror.stvz.io", "old", "a=b"], scope);
    await sandbox.kubectl(["delete", "mirror.stvz.io", "old"], scope);
  });

  test("replicas that are killed, both at once, are not missed for long", async () => {
    await sandbox.kubectl(["delete", "pod", ...controllers, "--grace-period=0", "--force"], scope);
    await isRefused(120_000);
  });

  test("a rolling restart fails no admission", async () => {
    const rollout = ["-n", namespace, "rollout"];
    await sandbox.kubectl([...rollout, "status", "deploy/coral-controller"], scope);
    await sandbox.kubectl([...rollout, "restart", "deploy/coral-controller"], scope);
    const status = sandbox.kubectl([...rollout, "status", "deploy/coral-controller"], scope);
    const end = new AbortController();
    const over = status.finally(() => end.abort());
    const others = new Set<string>();
    while (!end.signal.aborted) {
      const said = await apply("restart", { repositories }, "--dry-run=server");
      // An API server that is slow to answer says nothing about the webhook.
      if (/failed calling webhook|created|configured/.test(said)) others.add(said);
    }
    await over;

    assert.deepEqual([...others], []);
  });

  test("a deleted Secret is made anew, with another certificate, and served within a minute", async () => {
    const key = { namespace, name: "coral-tls" };
    const before = await cluster.client.get(secrets, key, scope);
    await cluster.client.delete(secrets, key, scope);
    const isBack = async (): Promise<boolean> => {
      const now = await cluster.client.get(secrets, key, scope);
      return now !== undefined && now.data?.["tls.crt"] !== before?.data?.["tls.crt"];
    };
    await waitFor(isBack, { what: "the Secret to be made anew", timeoutMs: 30_000, signal });
    await isRefused(30_000);
  });

  test("while no replica runs, Images can still be deleted", async () => {
    await apply("left", { selector: nowhere, repositories: [{ name: "debian", tags: ["12"] }] });
    const scale = ["-n", namespace, "scale", "deploy/coral-controller"];
    await sandbox.kubectl([...scale, "--replicas=0"], scope);
    await sandbox.kubectl(["wait", "pod", ...controllers, "--for=delete", "--timeout=60s"], {
      timeoutMs: 90_000,
      signal,
    });

    assert.match(
      await apply("new", { repositories: [{ name: "debian", tags: ["12"] }] }),
      /failed calling webhook/,
    );
    await sandbox.kubectl(["delete", "image.stvz.io", "left", "--cascade=foreground"], scope);
    assert.equal(await cluster.image("left", scope), undefined);
    await sandbox.kubectl([...scale, "--replicas=2"], scope);
    await isRefused(120_000);
  });

  test("no request of the controller was refused for want of a right", async () => {
    const requests = await readAuditLog(sandbox.layout.auditLog);
    const ours = requests.filter(({ user }) => user.endsWith(":coral-controller"));
    const rightOf = ({ verb, resource }: (typeof ours)[number]): string => `${verb} ${resource}`;
    // An API server that has just started refuses until it knows the roles; nothing is refused always.
    const granted = new Set(ours.filter(({ code }) => code < 400).map(rightOf));
    const refused = ours.filter(({ code }) => code === 403).map(rightOf);

    assert.deepEqual(
      refused.filter((right) => !granted.has(right)),
      [],
    );
  });
});

/** Selects no node: these Images are about admission alone. */
const nowhere = [{ key: "no-node-has-this", operator: "Exists" }];
