import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { root } from "./generated.ts";

/** A repository with nothing in it but `run.mjs`, and an npm that installs nothing but Node. */
class Project implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<Project> {
    const project = new Project(await mkdtemp(join(tmpdir(), "coral-run-")));
    for (const name of ["tools", "bin", "tmp"]) await mkdir(join(project.folder, name));
    await cp(join(root, "tools/run.mjs"), join(project.folder, "tools/run.mjs"));
    await project.write("package-lock.json", "{}");
    await project.write("installs.log", "");
    await project.write(
      "bin/npm",
      `#!/bin/sh
echo "$*" >> installs.log
if [ -e fails ]; then rm fails; exit 7; fi
rm -rf node_modules; mkdir -p node_modules/.bin; sleep 0.2
ln -s ${process.execPath} node_modules/.bin/node
`,
    );
    await chmod(join(project.folder, "bin/npm"), 0o755);
    return project;
  }

  write(name: string, content: string): Promise<void> {
    return writeFile(join(this.folder, name), content);
  }

  async installs(): Promise<number> {
    return (await readFile(join(this.folder, "installs.log"), "utf8")).split("\n").length - 1;
  }

  start(...args: string[]): ChildProcess {
    return spawn(process.execPath, ["tools/run.mjs", ...args], {
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PATH: `${join(this.folder, "bin")}:${process.env["PATH"]}`,
        TMPDIR: join(this.folder, "tmp"),
      },
    });
  }

  async run(...args: string[]): Promise<Ending> {
    return endOf(this.start(...args));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true });
  }
}

interface Ending {
  code: unknown;
  signal: unknown;
  stdout: string;
  stderr: string;
}

async function endOf(child: ChildProcess): Promise<Ending> {
  assert.ok(child.stdout && child.stderr);
  const [[code, signal], stdout, stderr] = await Promise.all([
    once(child, "exit"),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, signal, stdout, stderr };
}

/** Waits until a process has said that it is ready, which must be the first that it says. */
async function ready(child: ChildProcess): Promise<void> {
  assert.ok(child.stdout);
  await once(child.stdout, "readable");
}

const patient = `
  process.on("SIGINT", () => { console.log("SIGINT"); setTimeout(() => process.exit(3), 100); });
  console.log("ready"); setInterval(() => {}, 1000);`;

describe("run.mjs", { concurrency: true }, () => {
  test("installs once, then runs with arguments, exit code and PATH as they are", async () => {
    await using project = await Project.create();
    await project.write(
      "a.ts",
      `const args: string[] = process.argv.slice(2);
      console.log(JSON.stringify(args), process.env["PATH"]?.split(":")[0]); process.exit(42);`,
    );
    const first = await project.run("a.ts", "--x=1 2", "");
    const second = await project.run("a.ts");

    const bin = join(project.folder, "node_modules/.bin");
    assert.deepEqual([first.code, first.stdout], [42, `["--x=1 2",""] ${bin}\n`]);
    assert.deepEqual([second.code, second.stdout, second.stderr], [42, `[] ${bin}\n`, ""]);
    assert.equal(await project.installs(), 1);
  });

  test("installs again when the lock file has changed", async () => {
    await using project = await Project.create();
    await project.write("a.ts", "");
    await project.run("a.ts");
    await project.write("package-lock.json", '{ "packages": {} }');
    await project.run("a.ts");

    assert.equal(await project.installs(), 2);
  });

  test("leaves alone what somebody installed by hand", async () => {
    await using project = await Project.create();
    await project.write("a.ts", "");
    await project.run("a.ts");
    const packages = { "node_modules/b": { integrity: "sha512-b" } };
    const other = { "node_modules/c": { integrity: "sha512-c", optional: true } };
    const lock = { packages: { "": {}, ...packages, ...other } };
    await project.write("package-lock.json", JSON.stringify(lock));
    await project.write("node_modules/.package-lock.json", JSON.stringify({ packages }));
    await project.run("a.ts");

    assert.equal(await project.installs(), 1);
  });

  test("installs once when two start at the same time", async () => {
    await using project = await Project.create();
    await project.write("a.ts", "console.log(1)");
    const endings = await Promise.all([1, 2, 3].map(() => project.run("a.ts")));

    assert.deepEqual(
      endings.map(({ code, stdout }) => [code, stdout]),
      [1, 2, 3].map(() => [0, "1\n"]),
    );
    assert.equal(await project.installs(), 1);
  });

  test("takes over the lock of a process that died", async () => {
    await using project = await Project.create();
    await project.write("a.ts", "");
    await project.write("bin/npm", "#!/bin/sh\nkill -9 $PPID\n");
    const killed = await project.run("a.ts");
    const [lock = ""] = await readdir(join(project.folder, "tmp"));
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(join(project.folder, "tmp", lock, "id"), longAgo, longAgo);
    await project.write(
      "bin/npm",
      "#!/bin/sh\nmkdir -p node_modules/.bin\n" +
        `ln -s ${process.execPath} node_modules/.bin/node\n`,
    );
    const endings = await Promise.all([1, 2, 3].map(() => project.run("a.ts")));

    assert.equal(killed.signal, "SIGKILL");
    assert.deepEqual(
      endings.map(({ code }) => code),
      [0, 0, 0],
    );
  });

  test("tries again when npm fails", async () => {
    await using project = await Project.create();
    await project.write("a.ts", "");
    await project.write("fails", "");
    const { code, stderr } = await project.run("a.ts");

    assert.equal(code, 0);
    assert.match(stderr, /npm ci failed \(attempt 1 of 3\)/);
  });

  test("passes a signal on once, even if it came to the whole group", async () => {
    await using project = await Project.create();
    await project.write("a.ts", patient);
    const child = project.start("a.ts");
    await ready(child);
    child.kill("SIGINT");
    child.kill("SIGINT");
    const { code, stdout } = await endOf(child);

    assert.deepEqual([code, stdout], [3, "ready\nSIGINT\n"]);
  });

  test("dies of the signal that its script died of", async () => {
    await using project = await Project.create();
    await project.write(
      "a.ts",
      `process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);`,
    );
    await project.write("b.ts", `console.log("ready"); setInterval(() => {}, 1000);`);
    const killed = await project.run("a.ts");
    const child = project.start("b.ts");
    await ready(child);
    child.kill("SIGTERM");
    const stopped = await endOf(child);

    assert.deepEqual([killed.signal, stopped.signal], ["SIGKILL", "SIGTERM"]);
  });
});
