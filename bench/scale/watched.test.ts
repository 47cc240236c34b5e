import assert from "node:assert/strict";
import { test } from "node:test";

import { parseWatchedBytes } from "./watched.ts";

test("parseWatchedBytes() adds up what was sent of one kind of Coral's", () => {
  const text = `# TYPE apiserver_watch_events_sizes histogram
apiserver_watch_events_sizes_bucket{group="stvz.io",resource="nodereports",version="v1",le="1024"} 4
apiserver_watch_events_sizes_sum{group="stvz.io",resource="nodereports",version="v1"} 1.5e+06
apiserver_watch_events_sizes_sum{group="stvz.io",resource="nodereports",version="v2"} 12
apiserver_watch_events_sizes_sum{group="stvz.io",resource="images",version="v1"} 7
apiserver_watch_events_sizes_sum{group="",resource="nodereports",version="v1"} 9
`;
  assert.equal(parseWatchedBytes(text, "nodereports"), 1_500_012);
  assert.equal(parseWatchedBytes(text, "mirrors"), 0);
});
