import type { Routes } from "#http/router.ts";
import { isJsonObject } from "#json/json.ts";
import type { Log } from "#telemetry/log.ts";
import type { Registry } from "#telemetry/metrics.ts";
import { admissionSeconds, admittedPods, type DecidedBy } from "./metrics.ts";
import { decidePod, systemNamespaces } from "./pods/decide.ts";
import type { PodDecision, PodFacts, PodRequest } from "./pods/model.ts";
import { patchOf } from "./pods/patch.ts";
import { workloadPatch } from "./pods/workload.ts";
import { reviewEntry } from "./review-entry.ts";
import { letIn, type AdmissionRequest, type Answer } from "./review.ts";

/** Of the second for which the API server waits. */
const timeoutMs = 900;

/** Kinds of other groups may have the same names. */
const workloadGroups: ReadonlySet<string> = new Set(["", "apps", "batch"]);

export interface PodRoutesDeps {
  facts: PodFacts;
  log: Log;
  metrics: Registry;
}

/**
 * Makes the routes of the webhooks for pods, and for workloads that make them: `POST /mutate/pods`,
 * `POST /validate/pods` and `POST /mutate/workloads`. What cannot be read is let in as it is: the API
 * server will say what is wrong with it.
 */
export function podRoutes({ facts, log, metrics }: PodRoutesDeps): Routes {
  const deps = { log, seconds: admissionSeconds(metrics), timeoutMs };
  const pods = admittedPods(metrics);

  function mutatePod(asked: AdmissionRequest): Answer {
    const request = podRequestOf(asked);
    if (!request || (request.operation === "UPDATE" && request.subresource === "")) return letIn;
    const decision = decidePod(request, facts);
    const { warnings, audit } = decision;
    const patch = patchOf(request, decision);
    const result = patch.length > 0 ? "changed" : "unchanged";
    pods.inc({ result, decided_by: deciderOf(decision, facts) });
    return { causes: [], warnings, audit, patch };
  }

  function validatePod(asked: AdmissionRequest): Answer {
    const request = podRequestOf(asked);
    if (!request) return letIn;
    const decision = decidePod(request, facts);
    const { refusals } = decision;
    if (refusals.length === 0) return letIn;
    pods.inc({ result: "refused", decided_by: deciderOf(decision, facts) });
    return { causes: [], refusals, warnings: [] };
  }

  function mutateWorkload(request: AdmissionRequest): Answer {
    const { operation, subresource, namespace, group, kind, object, oldObject } = request;
    if (systemNamespaces.has(namespace) || namespace === facts.ownNamespace) return letIn;
    if (subresource !== "" || !workloadGroups.has(group) || !isJsonObject(object)) return letIn;
    if (operation !== "CREATE" && operation !== "UPDATE") return letIn;
    const before = isJsonObject(oldObject) ? oldObject : undefined;
    if (operation === "UPDATE" && !before) return letIn;
    return { ...letIn, patch: workloadPatch(kind, object, before, operation) };
  }

  return {
    "/mutate/pods": reviewEntry("pods", mutatePod, deps),
    "/validate/pods": reviewEntry("pods-admit", validatePod, deps),
    "/mutate/workloads": reviewEntry("workloads", mutateWorkload, deps),
  };
}

/** What is asked about a pod; `undefined` if it is about something else. */
function podRequestOf(request: AdmissionRequest): PodRequest | undefined {
  const { operation, subresource, group, kind, namespace, user, groups } = request;
  const { object: pod, oldObject: oldPod } = request;
  const isAboutPod = group === "" && kind === "Pod";
  if (!isAboutPod || (subresource !== "" && subresource !== "ephemeralcontainers"))
    return undefined;
  if (operation !== "CREATE" && operation !== "UPDATE") return undefined;
  if (namespace === "" || !isJsonObject(pod)) return undefined;
  const isUpdate = operation === "UPDATE";
  if (isUpdate && !isJsonObject(oldPod)) return undefined;
  return {
    operation,
    subresource,
    namespace,
    user,
    groups,
    pod,
    oldPod: isUpdate && isJsonObject(oldPod) ? oldPod : undefined,
  };
}

/** Who decided about a pod: of several, a policy for all pods goes before one for those that ask. */
function deciderOf({ slots }: PodDecision, { policies }: PodFacts): DecidedBy {
  const origins = slots.flatMap(({ origin }) => origin ?? []);
  const names = new Set(origins.flatMap((origin) => (origin.kind === "policy" ? origin.name : [])));
  const modes = policies.filter(({ name }) => names.has(name)).map(({ mode }) => mode);
  if (modes.includes("Force")) return "force";
  if (modes.includes("OptIn")) return "opt-in";
  if (modes.includes("Off")) return "off";
  return origins.length > 0 ? "annotation" : "nobody";
}
