/** What a token says. */
type Claims = Readonly<Record<string, unknown>>;

/** The account that `anAgentToken` is of. */
export const agentAccount = { namespace: "coral-system", serviceAccount: "coral-agent" } as const;

/** Claims as an API server of 1.32 and later writes them into a token for a pod on `node1`. */
export function agentClaims(claims: Claims = {}): Claims {
  return {
    aud: ["coral"],
    exp: 4_000_000_000,
    iat: 1_700_000_000,
    iss: "https://kubernetes.default.svc.cluster.local",
    "kubernetes.io": {
      namespace: agentAccount.namespace,
      node: { name: "node1", uid: "1d5f5f3e" },
      pod: { name: "coral-agent-x7k2p", uid: "5e9a5b0c" },
      serviceaccount: { name: agentAccount.serviceAccount, uid: "c0a8d8b4" },
    },
    sub: `system:serviceaccount:${agentAccount.namespace}:${agentAccount.serviceAccount}`,
    ...claims,
  };
}

/**
 * Makes a token that looks like one of Coral's agent. Nobody signed it.
 *
 * @param claims - other claims than those of `agentClaims`.
 * @param signature - tells tokens apart.
 */
export function anAgentToken(claims: Claims = {}, signature = "unsigned"): string {
  const parts = [{ alg: "RS256", kid: "test" }, agentClaims(claims)];
  const encoded = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  return [...encoded, Buffer.from(signature).toString("base64url")].join(".");
}
