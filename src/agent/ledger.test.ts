import assert from "node:assert/strict";
import { describe, test } from "node:test";

import type { ImagePlanSpec } from "#api/v1/image-plan.ts";
import { silentLog } from "#telemetry/log.ts";
import { aPlan } from "#test/agent-world.ts";
import type { HeldImage } from "./inventory.ts";
import { Ledger } from "./ledger.ts";
import { failed, found, type TrackedImage } from "./tracked-image.ts";

const reference = "r.io/x:1";
const policy = { errorThreshold: 3, minMs: 10_000, maxMs: 300_000, random: () => 0 };
const now = new Date("2026-01-01T00:00:00Z");
const hour = 3_600_000;
const a = `sha256:${"a".repeat(64)}`;
const b = `sha256:${"b".repeat(64)}`;

const after = (ms: number): Date => new Date(now.getTime() + ms);

/** A ledger of one image. */
function aLedger(more: Partial<ImagePlanSpec> = {}): Ledger {
  const ledger = new Ledger({ policy, log: silentLog, onChange: () => {} });
  const plans = { list: () => [aPlan("team/one", [reference], more)] };
  ledger.owe(plans, {}, { arePlansNew: true, now });
  return ledger;
}

function tracked(ledger: Ledger): TrackedImage {
  const image = ledger.get(reference);
  assert.ok(image);
  return image;
}

/** The only image is pulled in vain. */
function fail(ledger: Ledger, at = now): void {
  ledger.set(failed(tracked(ledger), { reason: "NotFound", message: "gone" }, at, policy));
}

const nothing = { find: (): HeldImage | undefined => undefined };

describe("Ledger.requests()", () => {
  test("tells the retries from what was not pulled yet", () => {
    const ledger = aLedger();
    assert.deepEqual(
      ledger.requests().map(({ isRetry }) => isRetry),
      [false],
    );
    fail(ledger);

    assert.deepEqual(
      ledger.requests().map(({ isRetry }) => isRetry),
      [true],
    );
  });

  // Such pulls took the slots that retries leave to others, each time anew.
  test("takes the pulls of a tag whose registry gives something else again for retries", () => {
    const expected = { digest: b, followsTag: true };
    const images = [{ reference, digest: b }];
    const ledger = aLedger({ imagePullPolicy: "Always", images });
    const held = { digests: [a], sizeBytes: 1 };
    ledger.compare({ find: () => held }, now);
    assert.equal(ledger.requests()[0]?.isRetry, false);
    ledger.set(found(tracked(ledger), held, { expected, now, policy, wasPulled: true }));
    assert.equal(tracked(ledger).state, "available");

    assert.equal(ledger.requests()[0]?.isRetry, true);
  });
});

describe("a ledger whose clock is set back", () => {
  test("lets nothing wait longer than its longest wait", () => {
    const ledger = aLedger();
    fail(ledger, after(9_000 * hour));
    ledger.compare(nothing, now);

    assert.deepEqual(tracked(ledger).since, now);
    const [request] = ledger.requests();
    assert.equal(request?.dueMs, now.getTime() + 600_000);
    const before = tracked(ledger);
    ledger.compare(nothing, now);
    assert.equal(tracked(ledger), before, "which is no news");
  });

  test("is looked at again within ten minutes while anything waits, and otherwise not", () => {
    const ledger = aLedger();
    assert.equal(ledger.untilCalmMs(now), undefined);
    fail(ledger);
    assert.equal(ledger.untilCalmMs(now), 600_000);
    assert.equal(ledger.untilCalmMs(after(-9_000 * hour)), 600_000);
    ledger.compare({ find: () => ({ digests: [a], sizeBytes: 1 }) }, now);

    assert.equal(ledger.untilCalmMs(now), undefined);
  });
});
