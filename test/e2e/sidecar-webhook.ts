import { readFile } from "node:fs/promises";

import { router, type PostRequest, type Reply } from "#http/router.ts";
import { serveTls } from "#http/serve.ts";
import { isJsonObject, textOf } from "#json/json.ts";
import { runProcess } from "#lifecycle/run-process.ts";
import { jsonLog } from "#telemetry/log.ts";

// A webhook of somebody else's, which adds a container to every pod that it is asked about, for an API
// server that finds it under https://localhost. Arguments: a port, files with a certificate and its key,
// and the container's image.
const [, , port = "", certFile = "", keyFile = "", image = ""] = process.argv;
const log = jsonLog({ level: "info", write: (line) => process.stderr.write(line) });
const apiVersion = "admission.k8s.io/v1";
const patch = [{ op: "add", path: "/spec/containers/-", value: { name: "sidecar", image } }];

function post({ body }: PostRequest): Promise<Reply> {
  const request = isJsonObject(body) && isJsonObject(body["request"]) ? body["request"] : {};
  const isThere = JSON.stringify(request["object"]).includes('"name":"sidecar"');
  const change = Buffer.from(JSON.stringify(isThere ? [] : patch)).toString("base64");
  const uid = textOf(request["uid"]);
  const response = { uid, allowed: true, patchType: "JSONPatch", patch: change };
  const answer = JSON.stringify({ apiVersion, kind: "AdmissionReview", response });
  return Promise.resolve({ contentType: "application/json", body: answer });
}

await runProcess({ log, drainTimeoutMs: 2_000 }, async (signal) => {
  const [cert, key] = await Promise.all([readFile(certFile, "utf8"), readFile(keyFile, "utf8")]);
  const certificates = {
    current: () => ({ cert, key }),
    onChange: () => ({ [Symbol.dispose]() {} }),
  };
  const routes = router({ "/": { post } }, log);
  await using _ = await serveTls(routes, {
    port: Number(port),
    maxBodyBytes: 7 << 20,
    certificates,
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
});
