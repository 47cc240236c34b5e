/** A kubeconfig for an API server without TLS. */
export function kubeconfig(server: URL): string {
  return JSON.stringify({
    "current-context": "fake",
    contexts: [{ name: "fake", context: { cluster: "fake", user: "fake" } }],
    clusters: [{ name: "fake", cluster: { server: server.href } }],
    users: [{ name: "fake", user: { token: "t" } }],
  });
}
