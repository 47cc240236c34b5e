import { FakeApiServer } from "#test/fake-api-server.ts";
import { kubeConformance } from "./suite.ts";
import { widgets } from "./widget.ts";

kubeConformance("the fake API server", async () => {
  const server = await FakeApiServer.start({ resources: [widgets] });
  const bookmarks = setInterval(() => server.sendBookmarks(), 200);
  return {
    config: server.config,
    quietWatchMs: 1_000,
    stop: () => server.stop(),
    kill: () => server.stop(),
    start: () => server.start(),
    forget: () => Promise.resolve(server.compact()),
    async [Symbol.asyncDispose]() {
      clearInterval(bookmarks);
      await server[Symbol.asyncDispose]();
    },
  };
});
