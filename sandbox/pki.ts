import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { run } from "./command.ts";
import { controlPlaneAddress, type Layout, type NodeLayout } from "./layout.ts";

type Scope = { signal: AbortSignal };

/** Address of the API server for programs in any of the sandbox's network namespaces. */
export const apiServerUrl = `https://${controlPlaneAddress}:6443`;

/** Makes the cluster's CA, the control plane's certificates and their kubeconfig files. */
export async function createPki(layout: Layout, { signal }: Scope): Promise<void> {
  await mkdir(layout.pki, { recursive: true, mode: 0o700 });
  const file = (name: string): string => join(layout.pki, name);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
  await run(
    ["openssl", "req", "-x509", ...newKey, "-days", "3650", "-subj", "/CN=coral-sandbox"].concat([
      "-keyout",
      file("ca.key"),
      "-out",
      file("ca.crt"),
    ]),
    { signal },
  );
  const signingKey = [
    "openssl",
    "genpkey",
    "-algorithm",
    "RSA",
    "-pkeyopt",
    "rsa_keygen_bits:2048",
  ];
  await run([...signingKey, "-out", file("sa.key")], { signal });
  await run(["openssl", "pkey", "-in", file("sa.key"), "-pubout", "-out", file("sa.pub")], {
    signal,
  });
  const serverNames = [
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "IP:127.0.0.1",
    "IP:10.96.0.1",
    `IP:${controlPlaneAddress}`,
  ];
  await Promise.all([
    createCertificate(layout, "apiserver", "/CN=kube-apiserver", serverNames, { signal }),
    createUser(layout, "admin", "/O=system:masters/CN=admin", { signal }),
    createUser(layout, "kcm", "/CN=system:kube-controller-manager", { signal }),
    createUser(layout, "scheduler", "/CN=system:kube-scheduler", { signal }),
    createUser(layout, "proxy", "/CN=system:kube-proxy", { signal }),
  ]);
}

/** Makes the certificate and kubeconfig file of a node's kubelet. */
export async function createNodePki(
  layout: Layout,
  node: NodeLayout,
  { signal }: Scope,
): Promise<void> {
  const names = [`DNS:${node.name}`, `IP:${node.address}`];
  const subject = `/O=system:nodes/CN=system:node:${node.name}`;
  await createCertificate(layout, node.name, subject, names, { signal });
  await writeKubeconfig(layout, node.name, apiServerUrl, `${node.name}.kubeconfig`);
}

/** Writes `admin.host.kubeconfig`, for programs of the host: it names the forwarder's port. */
export async function writeHostKubeconfig(layout: Layout, port: number): Promise<string> {
  return writeKubeconfig(layout, "admin", `https://127.0.0.1:${port}`, "admin.host.kubeconfig");
}

async function createUser(
  layout: Layout,
  name: string,
  subject: string,
  { signal }: Scope,
): Promise<void> {
  await createCertificate(layout, name, subject, [`DNS:${name}`], { signal });
  await writeKubeconfig(layout, name, apiServerUrl, `${name}.kubeconfig`);
}

async function createCertificate(
  layout: Layout,
  name: string,
  subject: string,
  alternativeNames: readonly string[],
  { signal }: Scope,
): Promise<void> {
  const file = (ending: string): string => join(layout.pki, `${name}.${ending}`);
  const ca = ["-CA", join(layout.pki, "ca.crt"), "-CAkey", join(layout.pki, "ca.key")];
  const extensions = [
    `subjectAltName=${alternativeNames.join(",")}`,
    "extendedKeyUsage=serverAuth,clientAuth",
    "basicConstraints=CA:FALSE",
  ];
  const argv = ["openssl", "req", "-x509", ...ca, "-days", "3650", "-subj", subject, "-noenc"];
  argv.push("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256");
  argv.push("-keyout", file("key"), "-out", file("crt"));
  await run([...argv, ...extensions.flatMap((extension) => ["-addext", extension])], { signal });
}

async function writeKubeconfig(
  layout: Layout,
  user: string,
  server: string,
  fileName: string,
): Promise<string> {
  const inline = async (name: string): Promise<string> =>
    (await readFile(join(layout.pki, name))).toString("base64");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: layout.name,
        cluster: { server, "certificate-authority-data": await inline("ca.crt") },
      },
    ],
    users: [
      {
        name: user,
        user: {
          "client-certificate-data": await inline(`${user}.crt`),
          "client-key-data": await inline(`${user}.key`),
        },
      },
    ],
    contexts: [{ name: layout.name, context: { cluster: layout.name, user } }],
    "current-context": layout.name,
  };
  const path = join(layout.pki, fileName);
  await writeFile(path, JSON.stringify(config, undefined, 2), { mode: 0o600 });
  return path;
}
