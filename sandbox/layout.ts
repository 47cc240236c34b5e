import { join } from "node:path";

import { sandboxesFolder } from "./paths.ts";

/** Names are short, since they are part of namespace and cgroup names; a dash separates parts there. */
const namePattern = /^[a-z][a-z0-9]{0,15}$/;

/** Whether a sandbox can have this name: one to sixteen lower-case letters and digits. */
export function isSandboxName(name: string): boolean {
  return namePattern.test(name);
}

/** First IPv4 address of the sandbox's own network: the control plane. Node i follows with +i. */
export const controlPlaneAddress = "10.240.0.1";

/** Service addresses, and the one of the cluster's DNS among them. */
export const serviceCidr = "10.96.0.0/16";
export const dnsAddress = "10.96.0.10";
export const podCidr = "10.244.0.0/16";

/** The control plane has .1 and .255 is broadcast. */
export const maxNodes = 99;

/** Where one sandbox keeps its things: names, addresses and paths, all derived from its name. */
export class Layout {
  readonly name: string;
  readonly folder: string;

  /** @throws {RangeError} if the name is not one to sixteen lower-case letters and digits. */
  constructor(name: string) {
    if (!isSandboxName(name)) {
      throw new RangeError(
        `Sandbox name "${name}" must be a letter and then at most 15 letters or digits, in lower case`,
      );
    }
    this.name = name;
    this.folder = join(sandboxesFolder(), name);
  }

  /** Network namespace of the control plane, and first part of every node's. */
  get namespace(): string {
    return `coral-${this.name}`;
  }

  get namespaceFile(): string {
    return `/run/netns/${this.namespace}`;
  }

  get pki(): string {
    return join(this.folder, "pki");
  }

  get logs(): string {
    return join(this.folder, "logs");
  }

  /** What Coral's service accounts asked of the API server, as audit events, one a line. */
  get auditLog(): string {
    return join(this.logs, "audit.log");
  }

  logOf(component: string): string {
    return join(this.logs, `${component.replace("/", "-")}.log`);
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  node(index: number): NodeLayout {
    return new NodeLayout(this, index);
  }
}

/** Names, addresses and paths of one node. Nodes count from 1. */
export class NodeLayout {
  readonly index: number;
  readonly name: string;
  readonly namespace: string;
  readonly folder: string;

  constructor(sandbox: Layout, index: number) {
    if (!Number.isInteger(index) || index < 1 || index > maxNodes) {
      throw new RangeError(`Node number ${index} must be from 1 to ${maxNodes}`);
    }
    this.index = index;
    this.name = `node${index}`;
    this.namespace = `${sandbox.namespace}-n${index}`;
    this.folder = sandbox.path("nodes", this.name);
  }

  get address(): string {
    return `10.240.0.${this.index + 1}`;
  }

  get podCidr(): string {
    return `10.244.${this.index}.0/24`;
  }

  /** The control plane's end of the node's link. */
  get link(): string {
    return `v${this.index}`;
  }

  /** Folder of the node below each cgroup hierarchy. */
  get cgroup(): string {
    return this.namespace;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }
}
