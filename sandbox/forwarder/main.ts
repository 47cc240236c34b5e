// Runs inside the sandbox's network namespace with listeners that were opened outside of it: a
// socket stays in the namespace in which it was made, so programs of the host reach 127.0.0.1 and
// only this process dials the sandbox's addresses.
import { connect, Server, type Socket } from "node:net";

import { parseTarget, type Target } from "./target.ts";

process.on("message", (message, handle) => {
  const target = parseTarget(message);
  if (!(handle instanceof Server)) throw new TypeError("A target must come with its listener");
  handle.on("connection", (client: Socket) => relay(client, target));
  process.send?.({ forwards: target });
});

/** Joins two connections, so that the end or failure of one is the end of the other. */
function relay(client: Socket, { host, port }: Target): void {
  const server = connect({ host, port, noDelay: true });
  client.setNoDelay(true);
  for (const [from, to] of [
    [client, server],
    [server, client],
  ] as const) {
    from.pipe(to);
    from.on("error", () => to.resetAndDestroy());
    from.on("close", () => to.destroySoon());
  }
}
