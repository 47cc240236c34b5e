import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { imageLabel } from "#api/v1/labels.ts";
import { mutatingWebhookConfigurations, pods } from "#kube/resource.ts";
import type { Pod } from "#kube/types.ts";
import { referenceLabel } from "#oci/reference.ts";
import { readAuditLog } from "#sandbox/audit-log.ts";
import { CommandError } from "#sandbox/command.ts";
import { insideControlPlane } from "#sandbox/control-plane.ts";
import { ensureSmallVariant } from "#sandbox/images/fixture-images.ts";
import { coralReady, installCoral } from "#sandbox/install-coral.ts";
import { openRegistry } from "#sandbox/registry-hosts.ts";
import { Sandbox } from "#sandbox/sandbox.ts";
import { waitFor } from "#sandbox/wait.ts";
import { aCertificate } from "#test/certificates.ts";
import { aDeployment, aPod, labelsOf, pullPoliciesOf, type PodWish } from "#test/cluster-pods.ts";
import { Cluster, holds } from "#test/cluster.ts";

const report = (line: string): void => console.error(line);
const inject = "image.stvz.io/inject";
const injected = "image.stvz.io/injected";
const { pause } = Sandbox.images;

describe("pods on a real cluster", { timeout: 15 * 60_000 }, () => {
  const signal = AbortSignal.timeout(60 * 60_000);
  const scope = { signal };
  let sandbox: Sandbox;
  let cluster: Cluster;
  /** On the first node alone. */
  let single: string;
  /** On both nodes. */
  let shared: string;

  before(async () => {
    sandbox = await Sandbox.start({ nodes: 2, report, signal });
    await installCoral(sandbox, scope);
    cluster = new Cluster(sandbox, await sandbox.connect());
    single = await serve("single", 30);
    shared = await serve("shared", 31);
    const selector = [{ key: "kubernetes.io/hostname", operator: "In", values: ["node1"] }];
    await cluster.want("single", [single], { selector, signal });
    await cluster.want("shared", [shared, pause], scope);
    await cluster.ready("single", 1, scope);
    await cluster.ready("shared", 2, scope);
    await isInjected(single);
    await isInjected(shared);
  });
  after(async () => {
    await cluster.client[Symbol.asyncDispose]();
    await sandbox[Symbol.asyncDispose]();
  });

  /** Serves an image of which no node has any layer yet. */
  async function serve(name: string, variant: number): Promise<string> {
    const folder = await ensureSmallVariant(variant, sandbox.programs, scope);
    const reference = `${openRegistry.host}/pods/${name}:1`;
    await sandbox.push(folder, reference, scope);
    return reference;
  }

  /** What kubectl says, be it content or not. */
  async function say(args: readonly string[], input = ""): Promise<string> {
    try {
      const { stdout, stderr } = await sandbox.kubectl(args, { input, signal });
      return stdout + stderr;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return error.stderr;
    }
  }

  /** What would become of a pod; none is made. */
  async function admitted(wish: PodWish): Promise<Pod> {
    const input = JSON.stringify(aPod("probe", wish));
    const create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    const { stdout } = await sandbox.kubectl(create, { input, signal });
    return pods.parse(JSON.parse(stdout));
  }

  /** Waits until every replica knows where an image is: two requests in turn go to both of them. */
  async function isInjected(image: string): Promise<void> {
    let streak = 0;
    const look = async (): Promise<boolean> => {
      const pod = await admitted({ image, annotations: { [inject]: "pull-policy,selectors" } });
      streak = pullPoliciesOf(pod).join() === "Never" ? streak + 1 : 0;
      return streak > 8;
    };
    await waitFor(look, { what: `pods with ${image} to be changed`, timeoutMs: 60_000, signal });
  }

  async function deploy(name: string, replicas: number, wish: PodWish): Promise<void> {
    await cluster.apply(aDeployment(name, replicas, wish), scope);
    await rolledOut(name, wish.namespace);
  }

  async function rolledOut(name: string, namespace = "default"): Promise<void> {
    const status = ["-n", namespace, "rollout", "status", `deploy/${name}`, "--timeout=90s"];
    await sandbox.kubectl(status, { timeoutMs: 100_000, signal });
  }

  async function podsOf(name: string, namespace = "default"): Promise<readonly Pod[]> {
    const { items } = await cluster.client.list(pods, {
      namespace,
      labelSelector: `app=${name}`,
      signal,
    });
    return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  }

  /** Why the kubelet did something with pods, like `Pulling`. */
  async function reasonsOf(name: string): Promise<string[]> {
    const query = ["get", "events", "--field-selector", "involvedObject.kind=Pod", "-o"];
    const columns = "jsonpath={range .items[*]}{.involvedObject.name} {.reason}{'\\n'}{end}";
    const { stdout } = await sandbox.kubectl([...query, columns], scope);
    const lines = stdout.split("\n").filter((line) => line.startsWith(`${name}-`));
    return lines.map((line) => line.split(" ")[1] ?? "");
  }

  async function remove(name: string): Promise<void> {
    await sandbox.kubectl(["delete", "deploy", name, "--wait=false"], scope);
  }

  test("an annotated Deployment runs only where its image is, and starts without a pull", async () => {
    await deploy("web", 3, { image: single, annotations: { [inject]: "pull-policy,selectors" } });
    const made = await podsOf("web");

    assert.equal(made.length, 3);
    for (const pod of made) {
      assert.equal(pod.spec?.nodeName, "node1");
      assert.deepEqual(pullPoliciesOf(pod), ["Never"]);
      assert.equal(pod.metadata.annotations?.[injected], "true");
    }
    const reasons = await reasonsOf("web");
    assert.ok(reasons.includes("Pulled")); // "already present on machine"
    assert.ok(!reasons.includes("Pulling"));
    const sets = ["get", "replicasets", "-l", "app=web", "-o", "name"];
    assert.equal((await say(sets)).trim().split("\n").length, 1);
    await remove("web");
  });

  test("an annotation that is taken away from a Deployment leaves its template", async () => {
    await deploy("fickle", 1, { image: shared, annotations: { [inject]: "selectors" } });
    const template = ["get", "deploy", "fickle", "-o", "jsonpath={.spec.template.metadata}"];
    assert.match(await say(template), /"image\.stvz\.io\/inject":"selectors"/);
    await sandbox.kubectl(["annotate", "deploy", "fickle", `${inject}-`], scope);

    assert.doesNotMatch(await say(template), /inject/);
    await rolledOut("fickle");
    await remove("fickle");
  });

  test("annotations of every kind of workload go to its pod template", async () => {
    const metadata = {
      name: "probe",
      namespace: "default",
      annotations: { [inject]: "selectors" },
    };
    const labels = { app: "probe" };
    const containers = [{ name: "main", image: shared }];
    const template = { metadata: { labels }, spec: { containers } };
    const once = { metadata: { labels }, spec: { containers, restartPolicy: "Never" } };
    const selected = { selector: { matchLabels: labels }, template };
    const kinds: [apiVersion: string, kind: string, spec: object][] = [
      ["apps/v1", "Deployment", selected],
      ["apps/v1", "StatefulSet", { ...selected, serviceName: "probe" }],
      ["apps/v1", "DaemonSet", selected],
      ["apps/v1", "ReplicaSet", selected],
      ["v1", "ReplicationController", { selector: labels, template }],
      ["batch/v1", "Job", { template: once }],
      ["batch/v1", "CronJob", { schedule: "0 0 1 1 *", jobTemplate: { spec: { template: once } } }],
    ];
    for (const [apiVersion, kind, spec] of kinds) {
      const create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
      const said = await say(create, JSON.stringify({ apiVersion, kind, metadata, spec }));

      assert.equal(said.match(/"image\.stvz\.io\/inject": "selectors"/g)?.length, 2, kind);
    }
  });

  test("pods avoid a node from which the image was removed", async () => {
    await sandbox.stop(openRegistry.id, scope); // So that it stays removed.
    const node = sandbox.nodes[1];
    assert.ok(node);
    await node.crictl(["rmi", shared], scope);
    const label = referenceLabel(shared);
    const isGone = async (): Promise<boolean> =>
      (await cluster.labels(node.name, scope))[label] !== "available";
    await waitFor(isGone, { what: "the label to say so", signal });
    await deploy("moved", 3, { image: shared, annotations: { [inject]: "pull-policy,selectors" } });

    assert.deepEqual(
      new Set((await podsOf("moved")).map(({ spec }) => spec?.nodeName)),
      new Set(["node1"]),
    );
    await sandbox.start(openRegistry.id, scope);
    await waitFor(() => holds(node, shared, scope), {
      what: "the image to be pulled again",
      timeoutMs: 120_000,
      signal,
    });
    await cluster.ready("shared", 2, scope);
    await remove("moved");
  });

  /** The pods for which the API server asks, besides those with an annotation. */
  async function asksForAll(): Promise<boolean> {
    const key = { name: "coral-mutation" };
    const found = await cluster.client.get(mutatingWebhookConfigurations, key, scope);
    const webhook = found?.webhooks?.find(({ name }) => name === "policies.stvz.io");
    assert.ok(webhook);
    return webhook.objectSelector?.matchExpressions === undefined;
  }

  async function applyPolicy(name: string, spec: object): Promise<string> {
    const policy = { apiVersion: "stvz.io/v1", kind: "ImagePolicy", metadata: { name }, spec };
    return say(["apply", "-f", "-"], JSON.stringify(policy));
  }

  test("a forced policy is for all pods of its namespaces, within a second, until it goes", async () => {
    for (const name of ["forced", "free"]) await sandbox.kubectl(["create", "ns", name], scope);
    await sandbox.kubectl(["label", "ns", "forced", "team=forced"], scope);
    assert.equal(await asksForAll(), false);
    assert.deepEqual(pullPoliciesOf(await admitted({ image: shared, namespace: "forced" })), [
      "IfNotPresent",
    ]);
    const namespaceSelector = { matchLabels: { team: "forced" } };
    const force = { mode: "Force", pullPolicy: "Never", nodes: "Required", namespaceSelector };
    assert.match(await applyPolicy("force", force), /created/);
    const startMs = performance.now();
    const isForced = async (): Promise<boolean> => {
      const pod = await admitted({ image: shared, namespace: "forced" });
      return pullPoliciesOf(pod).join() === "Never" && labelsOf(pod).length === 1;
    };
    await waitFor(isForced, { what: "the policy to act", timeoutMs: 10_000, signal });
    report(`a policy acts after ${Math.round(performance.now() - startMs)} ms`);

    assert.equal(await asksForAll(), true);
    const free = await admitted({ image: shared, namespace: "free" });
    assert.deepEqual(pullPoliciesOf(free), ["IfNotPresent"]);
    assert.deepEqual(labelsOf(free), []);
    // On one node of the two that it takes: nobody is made to wait for it.
    const rare = await admitted({ image: single, namespace: "forced" });
    assert.deepEqual(pullPoliciesOf(rare), ["IfNotPresent"]);
    await deploy("all", 2, { image: shared, namespace: "forced" });
    await sandbox.kubectl(["delete", "imagepolicy", "force"], scope);
    await waitFor(async () => !(await asksForAll()), { what: "the webhook to be let go", signal });
    await waitFor(async () => !(await isForced()), { what: "the policy to act no more", signal });
    await sandbox.kubectl(["-n", "forced", "delete", "deploy", "all", "--wait=false"], scope);
  });

  test("OnlyAvailable refuses an image that no node holds, and says what to do", async () => {
    await applyPolicy("only", {
      mode: "Force",
      admit: "OnlyAvailable",
      images: [`${openRegistry.host}/**`],
    });
    const absent = `${openRegistry.host}/pods/absent:1`;
    let said = "";
    const isRefused = async (): Promise<boolean> => {
      const create = ["create", "--dry-run=server", "-f", "-"];
      said = await say(create, JSON.stringify(aPod("probe", { image: absent })));
      return said.includes("Forbidden");
    };
    await waitFor(isRefused, { what: "the pod to be refused", timeoutMs: 10_000, signal });

    assert.match(said, /admission webhook "pods-admit\.stvz\.io" denied the request/);
    assert.match(said, /container "main"/);
    assert.ok(said.includes(`"${absent}"`));
    assert.match(said, /"?only"?/);
    assert.match(said, /kubectl get images -A/);
    const input = JSON.stringify(aPod("here", { image: shared }));
    await sandbox.kubectl(["apply", "-f", "-"], { input, signal });
    assert.match(await say(["set", "image", "pod/here", `main=${absent}`]), /container "main"/);
    const debug = ["debug", "here", `--image=${absent}`, "--container=debugger"];
    assert.match(await say(debug), /container "debugger"/);
    assert.match(await say(["annotate", "pod", "here", "a=b"]), /annotated/);
    await sandbox.kubectl(["delete", "pod", "here", "--wait=false"], scope);
    await sandbox.kubectl(["delete", "imagepolicy", "only"], scope);
  });

  test("a policy that only warns changes nothing and refuses nothing", async () => {
    await applyPolicy("warn", {
      mode: "Force",
      pullPolicy: "IfNotPresent",
      nodes: "Required",
      admit: "OnlyAvailable",
      enforcement: "Warn",
    });
    let said = "";
    const isWarned = async (): Promise<boolean> => {
      const create = ["create", "--dry-run=server", "-f", "-"];
      said = await say(
        create,
        JSON.stringify(aPod("probe", { image: `${openRegistry.host}/no:1` })),
      );
      return said.includes("Warning:");
    };
    await waitFor(isWarned, { what: "the warning", timeoutMs: 10_000, signal });

    assert.match(said, /pod\/probe created/);
    assert.match(said, /warn/);
    assert.deepEqual(labelsOf(await admitted({ image: shared })), []);
    await sandbox.kubectl(["delete", "imagepolicy", "warn"], scope);
  });

  test("an ephemeral container of kubectl debug gets its pull policy alone", async () => {
    const annotations = { [inject]: "pull-policy,selectors" };
    const input = JSON.stringify(aPod("patient", { image: shared, annotations }));
    await sandbox.kubectl(["apply", "-f", "-"], { input, signal });
    await sandbox.kubectl(["wait", "pod/patient", "--for=condition=Ready", "--timeout=60s"], {
      timeoutMs: 90_000,
      signal,
    });
    await sandbox.kubectl(["debug", "patient", `--image=${pause}`, "--container=debugger"], scope);
    const pod = await cluster.client.get(pods, { namespace: "default", name: "patient" }, scope);

    assert.deepEqual(
      pod?.spec?.ephemeralContainers?.map(({ name, imagePullPolicy }) => [name, imagePullPolicy]),
      [["debugger", "Never"]],
    );
    assert.deepEqual(pullPoliciesOf(pod), ["Never"]);
    assert.equal(labelsOf(pod).length, 1);
    await sandbox.kubectl(["delete", "pod", "patient", "--wait=false"], scope);
  });

  test("a sidecar that another webhook adds later is looked at, and nothing is added twice", async () => {
    const folder = sandbox.layout.path("sidecar");
    const { cert, key, ca } = aCertificate("localhost");
    await Promise.all([writeFile(`${folder}.crt`, cert), writeFile(`${folder}.key`, key)]);
    const program = fileURLToPath(import.meta.resolve("./sidecar-webhook.ts"));
    const argv = [process.execPath, program, "9555", `${folder}.crt`, `${folder}.key`, pause];
    const [nsenter = "", ...rest] = insideControlPlane(sandbox.layout, argv);
    const webhook: ChildProcess = spawn(nsenter, rest, { stdio: ["ignore", "ignore", "inherit"] });
    using _ = { [Symbol.dispose]: () => void webhook.kill("SIGKILL") };
    const configuration = {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name: "zz-sidecars" }, // They are asked in the order of their names.
      webhooks: [
        {
          name: "sidecars.example.com",
          admissionReviewVersions: ["v1"],
          clientConfig: {
            url: "https://localhost:9555/",
            caBundle: Buffer.from(ca).toString("base64"),
          },
          rules: [
            { apiGroups: [""], apiVersions: ["v1"], resources: ["pods"], operations: ["CREATE"] },
          ],
          objectSelector: { matchLabels: { sidecar: "yes" } },
          failurePolicy: "Ignore",
          sideEffects: "None",
        },
      ],
    };
    await cluster.apply(configuration, scope);
    const wish = {
      image: single,
      annotations: { [inject]: "pull-policy,selectors" },
      labels: { sidecar: "yes" },
    };
    const isAdded = async (): Promise<boolean> =>
      (await admitted(wish)).spec?.containers?.length === 2;
    await waitFor(isAdded, { what: "the sidecar to be added", signal });
    await deploy("sides", 1, wish);
    const [pod] = await podsOf("sides");

    assert.deepEqual(
      pod?.spec?.containers?.map(({ name, imagePullPolicy }) => [name, imagePullPolicy]),
      [
        ["main", "Never"],
        ["sidecar", "Never"],
      ],
    );
    assert.deepEqual(labelsOf(pod).toSorted(), [single, pause].map(imageLabel).toSorted());
    await remove("sides");
    await sandbox.kubectl(["delete", "mutatingwebhookconfiguration", "zz-sidecars"], scope);
  });

  test("while no part of Coral runs, pods start as before", async () => {
    const annotations = { [inject]: "pull-policy,selectors" };
    await deploy("growing", 1, { image: shared, annotations });
    const kill = ["-n", "coral-system", "delete", "pods", "--all", "--grace-period=0", "--force"];
    const scale = ["-n", "coral-system", "scale", "deploy/coral-controller"];
    await sandbox.kubectl([...scale, "--replicas=0"], scope);
    const killed = sandbox.kubectl(kill, { timeoutMs: 60_000, signal });
    await sandbox.kubectl(["scale", "deploy/growing", "--replicas=6"], scope);
    await Promise.all([killed, rolledOut("growing")]);
    // Of pods that are gone, containers may run, and answer, for a little while.
    const isLeftAlone = async (): Promise<boolean> =>
      pullPoliciesOf(await admitted({ image: shared, annotations })).join() === "IfNotPresent";
    await waitFor(isLeftAlone, { what: "the last replica to end", signal });
    await deploy("late", 1, { image: shared, annotations });

    assert.equal((await podsOf("growing")).length, 6);
    const [late] = await podsOf("late");
    assert.deepEqual(pullPoliciesOf(late), ["IfNotPresent"]);
    await sandbox.kubectl([...scale, "--replicas=2"], scope);
    await coralReady(sandbox, scope);
    await isInjected(shared);
    await Promise.all([remove("growing"), remove("late")]);
  });

  /** Whether somebody may do something with policies. They are the whole cluster's. */
  async function may(user: string, verb: string): Promise<boolean> {
    const said = await say(["auth", "can-i", verb, "imagepolicies.stvz.io", "-A", "--as", user]);
    return said.includes("yes");
  }

  test("who looks at the whole cluster sees policies, and who has the rights of an admin changes them", async () => {
    for (const role of ["view", "edit", "admin"]) {
      const bind = ["create", "clusterrolebinding", role, "--clusterrole", role, "--user", role];
      await sandbox.kubectl(bind, scope);
    }
    const bindIn = ["create", "rolebinding", "tenant", "--clusterrole", "admin"];
    await sandbox.kubectl([...bindIn, "--user", "tenant"], scope);
    await waitFor(() => may("admin", "create"), { what: "the roles to be aggregated", signal });

    assert.equal(await may("view", "list"), true);
    assert.equal(await may("edit", "create"), false);
    assert.equal(await may("tenant", "list"), false);
    assert.equal(await may("tenant", "create"), false);
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
