import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { PullError, type PullErrorCode } from "#cri/pull-error.ts";
import type { PullCredentials } from "#cri/runtime-client.ts";
import { MemoryRuntime } from "#test/agent-runtime.ts";
import { aNode } from "#test/agent-world.ts";
import { LoginsUnavailableError } from "./logins.ts";
import type { OwedImage } from "./owed.ts";
import type { StallWatch, WatchedPull } from "./stall-watch.ts";
import { Puller, type PullerDeps, type PullOutcome } from "./puller.ts";

const reference = "r.io/x:1";

function anImage(more: Partial<OwedImage> = {}): OwedImage {
  return {
    reference,
    host: "r.io",
    priority: 0,
    namespaces: ["a"],
    version: "1",
    sizes: [{ platform: "linux/amd64", sizeBytes: 100 }],
    followsTag: false,
    loginPlans: [],
    slotPlans: [],
    ...more,
  };
}

function aLogin(username: string): PullCredentials {
  return { serverAddress: "r.io", username, password: "p" };
}

function aPuller(more: Partial<PullerDeps> = {}): { puller: Puller; runtime: MemoryRuntime } {
  const runtime = new MemoryRuntime();
  const usual = { runtime, timeoutMs: 60_000, patience: 3, random: () => 0 };
  return { runtime, puller: new Puller({ ...usual, ...more }) };
}

function pull(
  { signal }: TestContext,
  puller: Puller,
  image: OwedImage,
  postponements = 0,
  heldBytes = 0,
): Promise<PullOutcome> {
  return puller.pull(image, { node: aNode(), heldBytes, attempts: 0, postponements, signal });
}

async function hasBegun(runtime: MemoryRuntime): Promise<void> {
  for (let turn = 0; runtime.running.length === 0; turn++) {
    assert.ok(turn < 1_000, "no pull began");
    await new Promise(setImmediate);
  }
}

const guard: StallWatch["guard"] = (_pull, work, { signal }) => work(signal);

const denied = { name: "PullError", code: "PULL_DENIED" };

describe("a pull with logins", () => {
  const image = anImage({ loginPlans: ["a/one"] });
  const logins = { loginsFor: async () => [aLogin("first"), aLogin("second")] };

  test("tries one after the other while the registry denies, and at last none", async (t) => {
    const { runtime, puller } = aPuller({ logins });
    runtime.guard(reference, "second");
    assert.deepEqual(await pull(t, puller, image), { isDone: true });
    assert.deepEqual(runtime.users, ["first", "second"]);

    runtime.guard(reference, "third");
    await assert.rejects(pull(t, puller, image), denied);
    assert.deepEqual(runtime.users.slice(2), ["first", "second", undefined]);
  });

  test("tells that a login was denied, and not what a stranger was told then", async (t) => {
    let answer: PullErrorCode = "UNKNOWN";
    const runtime: PullerDeps["runtime"] = {
      async pull(reference, { credentials }) {
        const code = credentials ? "PULL_DENIED" : answer;
        throw new PullError(reference, code, code, undefined);
      },
    };
    const { puller } = aPuller({ logins, runtime });
    for (const code of ["IMAGE_NOT_FOUND", "THROTTLED", "UNKNOWN"] as const) {
      answer = code;
      await assert.rejects(pull(t, puller, image), denied);
    }
    for (const code of ["DISK_FULL", "RUNTIME_UNAVAILABLE"] as const) {
      answer = code;
      await assert.rejects(pull(t, puller, image), { code }, "that is the node's");
    }
  });

  test("tries no other login when something else is wrong", async (t) => {
    const { runtime, puller } = aPuller({ logins });
    runtime.fail(reference, "THROTTLED");
    await assert.rejects(pull(t, puller, image), { code: "THROTTLED" });

    assert.deepEqual(runtime.users, ["first"]);
  });

  test("asks for no logins if no plan has them, and pulls without if there are none", async (t) => {
    const asked: string[] = [];
    const none = {
      async loginsFor(reference: string) {
        asked.push(reference);
        return [];
      },
    };
    const { runtime, puller } = aPuller({ logins: none });
    await pull(t, puller, anImage());
    assert.deepEqual(asked, []);
    await pull(t, puller, image);

    assert.deepEqual([asked, runtime.users], [[reference], [undefined, undefined]]);
  });

  test("waits while nobody can be asked, and for a public image not for ever", async (t) => {
    const away = {
      loginsFor: () => Promise.reject(new LoginsUnavailableError("away", { retryable: true })),
    };
    const { runtime, puller } = aPuller({ logins: away });
    const outcome = await pull(t, puller, image);
    assert.deepEqual(outcome, {
      isDone: false,
      why: { reason: "NoCredentials", message: "the controller cannot be asked for logins" },
      retryAfterMs: 2_000,
    });
    assert.deepEqual(runtime.pulls, []);
    assert.deepEqual(await pull(t, puller, image, 3), { isDone: true });

    runtime.guard(reference, "somebody");
    const again = await pull(t, puller, image, 3);
    assert.equal(!again.isDone && again.why.reason, "NoCredentials", "a denial says nothing");
    runtime.fail(reference, "IMAGE_NOT_FOUND");
    const hidden = await pull(t, puller, image, 3);
    assert.equal(!hidden.isDone && hidden.why.reason, "NoCredentials", "nor does what is hidden");
  });
});

describe("a pull that needs a slot", () => {
  const image = anImage({ slotPlans: ["a/one", "b/two"] });

  test("gets it of the first plan that has one, and lets go when it has ended", async (t) => {
    const story: string[] = [];
    const lost = new AbortController().signal;
    const { puller, runtime } = aPuller({
      slots: {
        async acquire(plans) {
          story.push(`acquire ${plans.join()}, ${runtime.pulls.length} pulls`);
          return {
            lost,
            async [Symbol.asyncDispose]() {
              story.push(`let go, ${runtime.pulls.length} pulls`);
            },
          };
        },
      },
    });
    await pull(t, puller, image);
    runtime.fail(reference, "THROTTLED");
    await assert.rejects(pull(t, puller, image), { code: "THROTTLED" });

    assert.deepEqual(story, [
      "acquire a/one, 0 pulls",
      "let go, 1 pulls",
      "acquire a/one, 1 pulls",
      "let go, 2 pulls",
    ]);
  });

  test("waits as long as it is told, within reason", async (t) => {
    const waits: number[] = [];
    for (const retryAfterMs of [0, 7_000, 1e9]) {
      const { puller, runtime } = aPuller({ slots: { acquire: async () => ({ retryAfterMs }) } });
      const outcome = await pull(t, puller, image);
      assert.equal(!outcome.isDone && outcome.why.reason, "WaitingForSlot");
      waits.push(outcome.isDone ? 0 : outcome.retryAfterMs);
      assert.deepEqual(runtime.pulls, []);
    }

    assert.deepEqual(waits, [1_000, 7_000, 60_000]);
  });

  test("waits while nobody can be asked", async (t) => {
    const slots = { acquire: () => Promise.reject(new Error("away")) };
    const outcome = await pull(t, aPuller({ slots }).puller, image);

    assert.equal(
      !outcome.isDone && outcome.why.message,
      "the controller gave no answer about a slot",
    );
  });

  // One tenant's bound that cannot be asked about held up the other's image.
  test("asks for the next plan's when the first cannot be asked about", async (t) => {
    const slot = { lost: new AbortController().signal, async [Symbol.asyncDispose]() {} };
    const acquire = async ([plan]: readonly string[]): Promise<typeof slot> => {
      if (plan === "a/one") throw new Error("refused");
      return slot;
    };
    assert.deepEqual(await pull(t, aPuller({ slots: { acquire } }).puller, image), {
      isDone: true,
    });
  });

  test("is aborted when it is lost", async (t) => {
    const lose = new AbortController();
    const slot = { lost: lose.signal, async [Symbol.asyncDispose]() {} };
    const { puller, runtime } = aPuller({ slots: { acquire: async () => slot } });
    runtime.hold(reference);
    const outcome = pull(t, puller, image);
    await hasBegun(runtime);
    lose.abort();

    const { isDone, ...rest } = await outcome;
    assert.equal(isDone, false);
    assert.match(JSON.stringify(rest), /WaitingForSlot.*the slot was lost/);
    assert.deepEqual(runtime.running, []);
  });
});

describe("a pull onto a disk", () => {
  const policy = { expansion: 3, reservePercent: 10 };
  const having = (freeBytes: number): PullerDeps["disk"] => ({
    policy,
    source: { space: async () => ({ freeBytes, totalBytes: 1_000 }) },
  });

  test("begins if it fits", async (t) => {
    assert.deepEqual(await pull(t, aPuller({ disk: having(400) }).puller, anImage()), {
      isDone: true,
    });
  });

  test("waits half a minute or more if it does not", async (t) => {
    const { puller, runtime } = aPuller({ disk: having(399) });
    const outcome = await pull(t, puller, anImage());

    assert.equal(!outcome.isDone && outcome.why.reason, "InsufficientDisk");
    assert.equal(!outcome.isDone && outcome.retryAfterMs, 30_000);
    assert.deepEqual(runtime.pulls, []);
  });

  test("leaves room for those that run", async (t) => {
    const { puller, runtime } = aPuller({ disk: having(699) });
    runtime.hold(reference);
    const first = pull(t, puller, anImage()); // At the same time, as pulls do begin.
    const second = await pull(t, puller, anImage({ reference: "r.io/y:1" }));
    assert.equal(second.isDone, false);
    runtime.release(reference);
    await first;

    assert.equal((await pull(t, puller, anImage({ reference: "r.io/y:1" }))).isDone, true);
  });

  // Sizes of petabytes in one plan made every other image wait for the disk.
  test("takes nothing from others for what does not fit", async (t) => {
    const { puller, runtime } = aPuller({ disk: having(400) });
    const sizes = [{ platform: "linux/amd64", sizeBytes: 1e15 }];
    const [huge, good] = await Promise.all([
      pull(t, puller, anImage({ reference: "r.io/huge:1", sizes })),
      pull(t, puller, anImage()),
    ]);

    assert.deepEqual([huge.isDone, good.isDone], [false, true]);
    assert.deepEqual(runtime.pulls, [reference]);
  });

  describe("of which one namespace's image takes all", () => {
    const sizes = [{ platform: "linux/amd64", sizeBytes: 200 }];
    const others = anImage({ reference: "r.io/others:1", namespaces: ["b"] });

    test("waits while that gets on: it will take what it claims", async (t) => {
      for (const stalls of [undefined, { guard, isStill: () => false }]) {
        const { puller, runtime } = aPuller({ disk: having(700), stalls });
        runtime.hold(reference);
        const huge = pull(t, puller, anImage({ sizes }));
        assert.equal((await pull(t, puller, others)).isDone, false);
        runtime.release(reference);
        await huge;
        assert.equal((await pull(t, puller, others)).isDone, true);
      }
    });

    test("has half of the room, if not its own namespace's, while that stands still", async (t) => {
      const stalls = { guard, isStill: (name: string) => name === reference };
      const { puller, runtime } = aPuller({ disk: having(700), stalls });
      runtime.hold(reference);
      const huge = pull(t, puller, anImage({ sizes }));
      const own = await pull(t, puller, anImage({ reference: "r.io/own:1" }));
      assert.deepEqual([own.isDone, (await pull(t, puller, others)).isDone], [false, true]);
      runtime.release(reference);

      assert.equal((await huge).isDone, true);
    });
  });

  test("needs less room for an image of which the node has another version", async (t) => {
    const { puller } = aPuller({ disk: having(200) });

    assert.equal((await pull(t, puller, anImage())).isDone, false);
    assert.equal((await pull(t, puller, anImage(), 0, 50)).isDone, true);
  });

  test("begins if nobody knows its size, or the disk", async (t) => {
    const unseen = { policy, source: { space: async () => undefined } };
    assert.equal((await pull(t, aPuller({ disk: unseen }).puller, anImage())).isDone, true);
    const unsized = anImage({ sizes: [] });
    assert.equal((await pull(t, aPuller({ disk: having(0) }).puller, unsized)).isDone, true);
  });
});

test("a pull is watched by the digest that its image has, or is known to have", async (t) => {
  const watched: WatchedPull[] = [];
  const stalls: PullerDeps["stalls"] = {
    guard(pull, work, { signal }) {
      watched.push(pull);
      return work(signal);
    },
    isStill: () => false,
  };
  const { puller } = aPuller({ stalls });
  const [a, b] = [`sha256:${"a".repeat(64)}`, `sha256:${"b".repeat(64)}`];
  await pull(t, puller, anImage({ digest: a }));
  await pull(t, puller, anImage({ reference: `r.io/x:1@${b}` }));
  await pull(t, puller, anImage());

  assert.deepEqual(
    watched.map(({ digest }) => digest),
    [a, b, undefined],
  );
});

test("a pull that is aborted rejects with the reason, whatever it was about to do", async () => {
  const caller = new AbortController();
  const reason = new Error("no longer owed");
  const { puller, runtime } = aPuller({ logins: { loginsFor: async () => [aLogin("u")] } });
  runtime.hold(reference);
  const { signal } = caller;
  const attempt = { node: aNode(), heldBytes: 0, attempts: 0, postponements: 0, signal };
  const pulling = puller.pull(anImage({ loginPlans: ["a/one"] }), attempt);
  await hasBegun(runtime);
  caller.abort(reason);

  await assert.rejects(pulling, (error) => error === reason && !(error instanceof PullError));
});
