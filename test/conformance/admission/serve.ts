import { publishCa } from "#admission/ca-publisher.ts";
import { SecretCertificates } from "#admission/certificates.ts";
import { maxReviewBytes } from "#admission/review-entry.ts";
import { admissionRoutes } from "#admission/routes.ts";
import { systemClock } from "#async/clock.ts";
import { TaskGroup } from "#async/task-group.ts";
import { router } from "#http/router.ts";
import { serveTls } from "#http/serve.ts";
import { KubeClient } from "#kube/client.ts";
import { kubeconfigFile } from "#kube/cluster-config.ts";
import { validatingWebhookConfigurations } from "#kube/resource.ts";
import { runProcess } from "#lifecycle/run-process.ts";
import { jsonLog } from "#telemetry/log.ts";
import { Registry } from "#telemetry/metrics.ts";

// The controller's admission alone, for an API server that finds it under https://localhost:9443.
// Arguments: a kubeconfig file.
const [, , kubeconfig = ""] = process.argv;
const log = jsonLog({ level: "info", write: (line) => process.stderr.write(line) });
const clock = systemClock;
const namespace = "coral-system";

await runProcess({ log, drainTimeoutMs: 2_000 }, async (signal) => {
  await using stack = new AsyncDisposableStack();
  const config = await kubeconfigFile(kubeconfig);
  const client = stack.use(new KubeClient({ config, log, userAgent: "coral-controller/0" }));
  const common = { client, namespace, clock, log };
  const dnsNames = ["localhost"];
  const certificates = new SecretCertificates({ ...common, name: "coral-tls", dnsNames });
  const routes = router(admissionRoutes({ log, metrics: new Registry() }), log);
  const options = { port: 9443, maxBodyBytes: maxReviewBytes, certificates };
  stack.use(await serveTls(routes, options));
  const group = stack.use(new TaskGroup(signal));
  const names = {
    configMap: "coral-ca",
    webhooks: {
      configurations: [{ resource: validatingWebhookConfigurations, name: "coral-validation" }],
      tellsCa: true,
      need: { isNeeded: () => undefined, onChange: () => ({ [Symbol.dispose]() {} }) },
    },
  };
  await Promise.all([
    group.run((scope) => certificates.run(scope)),
    group.run((scope) => publishCa({ ...common, ...names, certificates }, scope)),
  ]);
});
