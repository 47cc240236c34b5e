import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

import { run, runToEnd } from "#sandbox/command.ts";
import { cachedFolder } from "./cached-image.ts";

/** What Node's binary is linked against, time zones and CA certificates: no shell, no package manager. */
const debianPackages = [
  "base-files",
  "ca-certificates",
  "libatomic1",
  "libc6",
  "libgcc-s1",
  "libstdc++6",
  "netbase",
  "tzdata",
] as const;

/** Folders that become the layers below a program for Node. */
export interface NodeRoots {
  /** C libraries, time zones, CA certificates, users. */
  libraries: string;
  /** `usr/local/bin/node`, as npm's package has it. */
  node: string;
  /** The same without its symbol table, which is a fifth of it. */
  strippedNode: string;
}

const multiarch = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

/** Version of the Node that the project pins. */
export const nodeVersion = process.versions.node;

/**
 * Makes the folders from Debian's packages and the pinned Node's package, never from files of this
 * machine, which may have been changed.
 */
export async function ensureNodeRoots({ signal }: { signal: AbortSignal }): Promise<NodeRoots> {
  const key = [debianPackages, nodeVersion, process.arch, "4"];
  const folder = await cachedFolder("node-roots", key, (into) => build(into, signal), { signal });
  return {
    libraries: join(folder, "libraries"),
    node: join(folder, "node"),
    strippedNode: join(folder, "stripped-node"),
  };
}

async function build(folder: string, signal: AbortSignal): Promise<void> {
  const packages = join(folder, "packages");
  const root = join(folder, "libraries");
  await mkdir(packages);
  await mkdir(root);
  const download = ["apt-get", "download", "-q", ...debianPackages];
  // apt's own user may not write here, which it says as a warning.
  const options = { cwd: packages, signal, timeoutMs: 5 * 60_000 };
  const first = await runToEnd(download, options);
  if (first.exitCode !== 0) {
    await run(["apt-get", "update", "-q"], options); // The lists may be old or missing.
    await run(download, options);
  }
  for (const file of await readdir(packages)) {
    await run(["dpkg-deb", "-x", join(packages, file), root], { signal });
  }
  await writeCertificates(root);
  for (const unused of [
    "doc",
    "man",
    "locale",
    "lintian",
    "ca-certificates",
    "bug",
    "common-licenses",
  ]) {
    await rm(join(root, "usr/share", unused), { recursive: true, force: true });
  }
  // Node converts no character sets through the C library, and nobody debugs it in a container.
  for (const unused of ["usr/sbin", "usr/share/gcc", `usr/lib/${multiarch}/gconv`]) {
    await rm(join(root, unused), { recursive: true, force: true });
  }
  await rm(packages, { recursive: true });
  await writeFile(
    join(root, "etc/passwd"),
    "root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/tmp:/sbin/nologin\n",
  );
  await writeFile(join(root, "etc/group"), "root:x:0:\nnonroot:x:65532:\n");
  await mkdir(join(root, "tmp"), { recursive: true });
  await chmod(join(root, "tmp"), 0o1777);

  const plain = join(folder, "node/usr/local/bin");
  const stripped = join(folder, "stripped-node/usr/local/bin");
  await mkdir(plain, { recursive: true });
  await mkdir(stripped, { recursive: true });
  await cp(nodeBinary(), join(plain, "node"));
  await run(["strip", "-o", join(stripped, "node"), nodeBinary()], { signal });
}

/** Joins the certificates of Debian's package, which its installation script would do. */
async function writeCertificates(root: string): Promise<void> {
  const folder = join(root, "usr/share/ca-certificates/mozilla");
  const names = (await readdir(folder)).sort();
  const certificates = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  await mkdir(join(root, "etc/ssl/certs"), { recursive: true });
  await writeFile(join(root, "etc/ssl/certs/ca-certificates.crt"), certificates.join(""));
}

function nodeBinary(): string {
  return createRequire(import.meta.url).resolve(`node-linux-${process.arch}/bin/node`);
}
