import { Sandbox } from "#sandbox/sandbox.ts";
import { describeRuntime } from "./suite.ts";

/** The sandbox's programs may have to be built first. */
const startTimeoutMs = 30 * 60_000;

describeRuntime("containerd", async () => {
  const signal = AbortSignal.timeout(startTimeoutMs);
  const sandbox = await Sandbox.start({ nodes: 1, name: "cri", signal });
  const scope = { signal: new AbortController().signal };
  const node = sandbox.node("node1");
  return {
    socketPath: await node.criSocket(),
    reference: Sandbox.images.small,
    missing: "registry.test:5000/library/none:1",
    async stallDownloads() {
      // containerd writes what it gets in pieces of 1 MiB.
      const blobs = { kind: "stall", path: "/blobs/", afterBytes: 1_500_000 } as const;
      await sandbox.upstream.setFaults([blobs], scope);
      return { [Symbol.asyncDispose]: () => sandbox.upstream.setFaults([], scope) };
    },
    kill: () => node.kill("containerd", scope),
    startAgain: () => node.start("containerd", scope),
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
});
