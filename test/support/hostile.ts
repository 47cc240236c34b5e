import { openRegistry } from "#sandbox/registry-hosts.ts";
import type { Fault } from "#sandbox/upstream/fault.ts";

/** Longest error text of the hostile registry, in bytes. */
const textBytes = 1_000_000;

const host = openRegistry.host;
const text = JSON.stringify({
  errors: [{ code: "DENIED", message: "no ".repeat(textBytes / 3), detail: { user: "a:b@c" } }],
});

/**
 * What a hostile Image meets at the very registry that everybody else uses: long error texts, then
 * pulls that hang until their time is over. Give them to `Upstream.setFaults`.
 */
export const hostileFaults: readonly Fault[] = [
  { kind: "status", status: 403, body: text, path: "^/v2/hostile/chatty/" },
  { kind: "silence", path: "^/v2/hostile/hanging/" },
  { kind: "slow", bytesPerSecond: 20, path: "^/v2/hostile/slow/" },
];

/**
 * An Image of as many bad names as the API lets through, 500, as somebody would write it who means
 * harm: of the highest priority, for every node, none of which can ever be pulled.
 */
export function hostileImage(key: { namespace: string; name: string }): unknown {
  const repositories = [
    { name: `${host}/hostile/chatty`, tags: tags(100) },
    { name: `${host}/hostile/hanging`, tags: tags(200) },
    { name: `${host}/hostile/nowhere`, tags: tags(50) },
    { name: `${host}/hostile/slow`, tags: tags(100) },
    { name: "nobody.test/hostile/nothing", tags: tags(50) },
  ];
  return {
    apiVersion: "stvz.io/v1",
    kind: "Image",
    metadata: key,
    spec: { priority: 1000, repositories },
  };
}

function tags(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `v${index}`);
}
