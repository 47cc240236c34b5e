import { FakeRuntime } from "#test/fake-runtime.ts";
import { describeRuntime } from "./suite.ts";

describeRuntime("FakeRuntime", async () => {
  const reference = "registry.test:5000/library/hello:1";
  const runtime = (await FakeRuntime.start()).offer(reference);
  return {
    socketPath: runtime.socketPath,
    reference,
    missing: "registry.test:5000/library/none:1",
    async stallDownloads() {
      const hold = runtime.hold(reference);
      const ref = `layer-sha256:${"1".repeat(64)}`;
      runtime.ingest(ref, 100);
      return {
        async [Symbol.asyncDispose]() {
          runtime.ingest(ref, undefined);
          hold.release();
        },
      };
    },
    kill: () => runtime.stop(),
    startAgain: () => runtime.startAgain(),
    [Symbol.asyncDispose]: () => runtime[Symbol.asyncDispose](),
  };
});
