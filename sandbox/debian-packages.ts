import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";

import { run, runToEnd } from "./command.ts";

/** Debian package to the program or file that it is needed for. */
const needed: Readonly<Record<string, string>> = {
  iproute2: "ip",
  nftables: "nft",
  iptables: "iptables", // For the CNI plugin portmap.
  conntrack: "conntrack",
  "util-linux": "nsenter",
  "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
  openssl: "openssl",
  binutils: "strip",
  gcc: "gcc", // runc and Kubernetes are built with cgo.
  "libc6-dev": "/usr/include/stdlib.h",
  "libseccomp-dev": "/usr/include/seccomp.h",
  "pkg-config": "pkg-config",
  dpkg: "dpkg-deb",
};

/**
 * Makes sure that the machine has what the sandbox calls, installing Debian packages where it may.
 *
 * @throws {Error} that lists what is missing and how to get it, where it may not: not root, not
 * Debian, or the installation failed.
 */
export async function ensureDebianPackages({
  report,
  signal,
}: {
  report: (line: string) => void;
  signal: AbortSignal;
}): Promise<void> {
  if (process.platform !== "linux") {
    throw new Error(`The sandbox needs Linux, and this is ${process.platform}`);
  }
  if (process.getuid?.() !== 0) {
    throw new Error("The sandbox needs root: it makes network namespaces, mounts and cgroups");
  }
  const missing = await missingPackages();
  if (missing.length === 0) return;
  const install = `apt-get install -y ${missing.join(" ")}`;
  if (!(await isThere("apt-get"))) {
    const files = missing.map((name) => `${needed[name]} (Debian package ${name})`);
    throw new Error(`The sandbox needs programs that are not here: ${files.join(", ")}`);
  }
  report(`installing Debian packages: ${missing.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // Not ended by our signal: a dpkg that is killed half-way leaves the machine to repair. Somebody
  // else may be installing, as a new machine does by itself.
  const timeoutMs = 15 * 60_000;
  const options = { env, signal: AbortSignal.timeout(timeoutMs), timeoutMs };
  const apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=600"];
  await runToEnd([...apt, "update"], options); // An old list may still do.
  try {
    await run([...apt, "install", "-y", "--no-install-recommends", ...missing], options);
    signal.throwIfAborted();
  } catch (error) {
    signal.throwIfAborted();
    throw new Error(`The sandbox needs Debian packages; install them with: ${install}`, {
      cause: error,
    });
  }
}

async function missingPackages(): Promise<string[]> {
  const looks = Object.entries(needed).map(async ([name, file]) =>
    (await isThere(file)) ? undefined : name,
  );
  return (await Promise.all(looks)).filter((name) => name !== undefined);
}

async function isThere(file: string): Promise<boolean> {
  const folders = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`.split(delimiter);
  const candidates = file.startsWith("/") ? [file] : folders.map((folder) => join(folder, file));
  const found = await Promise.allSettled(candidates.map((path) => access(path)));
  return found.some(({ status }) => status === "fulfilled");
}
