import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";

import { anyText } from "#test/any-text.ts";
import { PullError, type PullErrorCode } from "./pull-error.ts";
import { RpcError, rpcCodes, RuntimeUnavailableError, type RpcCode } from "./rpc-error.ts";

type Recorded = readonly [
  what: string,
  status: RpcCode,
  reference: string,
  text: string,
  code: PullErrorCode,
];

/** What containerd 2.4.2 answered to PullImage, recorded with registries that misbehave so. */
const containerd24: readonly Recorded[] = (
  [
    ["a tag that is not there", "NOT_FOUND", "IMAGE_NOT_FOUND", "IMAGE: not found"],
    [
      "a blob that is not there",
      "NOT_FOUND",
      "IMAGE_NOT_FOUND",
      "failed to copy: httpReadSeeker: failed open: could not fetch content descriptor sha256:4285e956c78cd5a2002dd1006784743c7baaa46885f80fd9cef13a6632e3d681 (application/vnd.oci.image.config.v1+json) from remote: not found",
    ],
    [
      "no login where basic authentication is wanted",
      "UNKNOWN",
      "PULL_DENIED",
      "failed to resolve image: pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials",
    ],
    [
      "a wrong password",
      "UNKNOWN",
      "PULL_DENIED",
      "failed to resolve image: unexpected status from HEAD request to http://registry.test:5001/v2/coral/small/manifests/1: 401 Unauthorized",
    ],
    [
      "403 with the OCI error DENIED",
      "UNKNOWN",
      "PULL_DENIED",
      "failed to resolve image: unexpected status from HEAD request to http://registry.test:5002/v2/a/b/manifests/1: 403 Forbidden denied",
    ],
    [
      "a token that does not reach",
      "UNKNOWN",
      "PULL_DENIED",
      "failed to resolve image: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    ],
    [
      "401 by the token server",
      "UNKNOWN",
      "PULL_DENIED",
      "failed to resolve image: failed to authorize: failed to fetch oauth token: unexpected status from GET request to http://registry.test:5013/token?scope=repository%3Aa%2Fb%3Apull&service=s: 401 Unauthorized",
    ],
    [
      "429 by the registry",
      "UNKNOWN",
      "THROTTLED",
      "failed to resolve image: unexpected status from HEAD request to http://registry.test:5003/v2/a/b/manifests/1: 429 Too Many Requests",
    ],
    [
      "429 by the token server",
      "UNKNOWN",
      "THROTTLED",
      "failed to resolve image: failed to authorize: failed to fetch anonymous token: unexpected status from GET request to http://registry.test:5012/token?scope=repository%3Aa%2Fb%3Apull&service=s: 429 Too Many Requests",
    ],
    [
      "500",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      "failed to resolve image: unexpected status from HEAD request to http://registry.test:5005/v2/a/b/manifests/1: 500 Internal Server Error",
    ],
    [
      "503",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      "failed to resolve image: unexpected status from HEAD request to http://registry.test:5006/v2/a/b/manifests/1: 503 Service Unavailable",
    ],
    [
      "nobody listening",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "http://registry.test:5010/v2/a/b/manifests/1": dial tcp 127.0.0.1:5010: connect: connection refused',
    ],
    [
      "a connection reset",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "http://registry.test:5011/v2/a/b/manifests/1": read tcp 127.0.0.1:46688->127.0.0.1:5011: read: connection reset by peer',
    ],
    [
      "packets dropped",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "http://registry.test:5021/v2/coral/small/manifests/1": dial tcp 127.0.0.1:5021: i/o timeout',
    ],
    [
      "no route",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "https://192.0.2.1:5000/v2/a/b/manifests/1": dial tcp 192.0.2.1:5000: connect: network is unreachable',
    ],
    [
      "a name that DNS does not know",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "https://nowhere.invalid/v2/a/b/manifests/1": dial tcp: lookup nowhere.invalid on 127.0.0.1:53: no such host',
    ],
    [
      "plain HTTP where HTTPS is spoken",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "https://other.test:5000/v2/coral/small/manifests/1": http: server gave HTTP response to HTTPS client',
    ],
    [
      "a certificate for another host",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      'failed to resolve image: failed to do request: Head "https://selfsigned.test:5020/v2/coral/small/manifests/1": tls: failed to verify certificate: x509: certificate is valid for wrong.test, not selfsigned.test',
    ],
    [
      "a blob cut off",
      "UNKNOWN",
      "REGISTRY_UNREACHABLE",
      "short read: expected 243 bytes but got 10: unexpected EOF",
    ],
    [
      "a blob with more bytes than announced",
      "FAILED_PRECONDITION",
      "UNKNOWN",
      "failed to copy: httpReadSeeker: read past expected size 243: failed precondition",
    ],
    [
      "a full disk",
      "UNKNOWN",
      "DISK_FULL",
      "failed to copy: write /var/lib/containerd/io.containerd.content.v1.content/ingest/1ad9e6fa32ea4d29dcf300d192cc7c7f4cea847e70baa53f1130def00e08a190/data: no space left on device",
    ],
  ] as const
).map(([what, status, code, text]) => [
  what,
  status,
  "registry.test:5001/coral/small:1",
  `failed to pull and unpack image "registry.test:5001/coral/small:1": ${text}`,
  code,
]);

/** Texts of other runtimes, from public reports (named), with the status they came with. */
const others: readonly Recorded[] = [
  [
    "containerd 1.x, Docker Hub's limit (kata-containers#10100)",
    "UNKNOWN",
    "docker.io/library/busybox:latest",
    'failed to pull and unpack image "docker.io/library/busybox:latest": failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/busybox/manifests/sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit',
    "THROTTLED",
  ],
  [
    "containerd 1.6, 429 on HEAD (nerdctl#3601)",
    "UNKNOWN",
    "docker.io/library/nginx:latest",
    'failed to pull and unpack image "docker.io/library/nginx:latest": failed to resolve reference "docker.io/library/nginx:latest": unexpected status from HEAD request to https://registry-1.docker.io/v2/library/nginx/manifests/latest: 429 Too Many Requests',
    "THROTTLED",
  ],
  [
    "CRI-O 1.21, Docker Hub's limit (cri-o#5282)",
    "UNKNOWN",
    "docker.io/calico/kube-controllers:v3.20.0",
    "Error reading manifest v3.20.0 in docker.io/calico/kube-controllers: toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
    "THROTTLED",
  ],
  [
    "CRI-O, denied (cri-o#2331)",
    "UNKNOWN",
    "docker.io/crio/nginx:latest",
    "Error reading manifest latest in docker.io/crio/busybox: errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required",
    "PULL_DENIED",
  ],
  [
    "CRI-O 1.18, not there (cri-o#4388)",
    "UNKNOWN",
    "registry.mydomain/image:latest",
    "Error reading manifest latest in registry.mydomain/image: manifest unknown: manifest unknown",
    "IMAGE_NOT_FOUND",
  ],
  [
    "CRI-O with artifacts, not there (kubevirt#16371)",
    "UNKNOWN",
    "registry:5000/kubevirt/demo:devel",
    "unable to pull image or OCI artifact: pull image err: initializing source docker://registry:5000/kubevirt/demo:devel: reading manifest devel in registry:5000/kubevirt/demo: manifest unknown; artifact err: get manifest: build image source: reading manifest devel in registry:5000/kubevirt/demo: manifest unknown",
    "IMAGE_NOT_FOUND",
  ],
  [
    "CRI-O, no answer (cri-o#2723)",
    "UNKNOWN",
    "docker.io/library/nginx:latest",
    "pinging docker registry returned: Get http://registry-1.docker.io/v2/: dial tcp 34.199.40.84:80: i/o timeout",
    "REGISTRY_UNREACHABLE",
  ],
  [
    "CRI-O behind a proxy without DNS (cri-o#2331)",
    "UNKNOWN",
    "docker.io/library/nginx:latest",
    'error pinging docker registry registry-1.docker.io: Get "https://registry-1.docker.io/v2/": proxyconnect tcp: dial tcp: lookup http: Temporary failure in name resolution',
    "REGISTRY_UNREACHABLE",
  ],
  [
    "containerd 1.7, not there (provider-aws-test-infra#281)",
    "NOT_FOUND",
    "registry.k8s.io/kube-apiserver-amd64:v1.30.0-alpha.1.107_052bce26f4f48b",
    'failed to pull and unpack image "registry.k8s.io/kube-apiserver-amd64:v1.30.0-alpha.1.107_052bce26f4f48b": failed to resolve reference "registry.k8s.io/kube-apiserver-amd64:v1.30.0-alpha.1.107_052bce26f4f48b": registry.k8s.io/kube-apiserver-amd64:v1.30.0-alpha.1.107_052bce26f4f48b: not found',
    "IMAGE_NOT_FOUND",
  ],
  [
    "containerd 1.7, a manifest that is not there (containerd#5799)",
    "NOT_FOUND",
    "env-important24724054.ronda.central.jelastic.team:8443/root/gitlab-k8s-cicd-demo/hwservice:master-1",
    'failed to pull and unpack image "env-important24724054.ronda.central.jelastic.team:8443/root/gitlab-k8s-cicd-demo/hwservice:master-1": httpReadSeeker: failed open: content at https://env-important24724054.ronda.central.jelastic.team:8443/v2/root/gitlab-k8s-cicd-demo/hwservice/manifests/sha256:2e22b7a8106be4a95c9fb333c85ac163566a7f0a4877275fd4232cf7852d70f8 not found: not found',
    "IMAGE_NOT_FOUND",
  ],
  [
    "containerd, a snapshot of its own that is gone (containerd#8173)",
    "NOT_FOUND",
    "gcr.io/k8s-staging-cri-tools/test-image-latest:latest",
    'failed to pull and unpack image "gcr.io/k8s-staging-cri-tools/test-image-latest:latest": failed to prepare extraction snapshot "extract-795119289-7389 sha256:92814310da31c646d0f7882b90637fd3b8701e92de7efa78f81b5b485480d86e": parent snapshot sha256:0b16ab2571f4b3e0d5a96b66a00e5016ddc0d268e8bc45dc612948c4c95b94cd does not exist: not found',
    "UNKNOWN",
  ],
  [
    "containerd 1.6, a web page instead of a layer (cri-tools#1137)",
    "NOT_FOUND",
    "docker.io/victoriametrics/victoria-metrics:v1.76.1",
    'failed to pull and unpack image "docker.io/victoriametrics/victoria-metrics:v1.76.1": failed to unpack image on snapshotter overlayfs: unexpected media type text/html for sha256:04a732b9876d77c18601b92f91bb05d4591a1356dbbfd732c13f4db1362c796d: not found',
    "UNKNOWN",
  ],
  [
    "containerd, a layer of another size than it should have (containerd#1893)",
    "UNKNOWN",
    "gcr.io/google_containers/e2e-net-amd64:1.0",
    'failed to pull image "gcr.io/google_containers/e2e-net-amd64:1.0": failed commit on ref "layer-sha256:4472fdd333e04a2fb76a1724e8861abc0663f26d5b05f93fe3cfd8cc05b3420b": unexpected commit size 1762935, expected 1500791: unknown',
    "UNKNOWN",
  ],
  [
    "containerd 1.7, no progress for too long (kubernetes#131521)",
    "CANCELLED",
    "private_registery.mydomain/idrac_to_kafka:20250428T1620",
    'failed to pull and unpack image "private_registery.mydomain/idrac_to_kafka:20250428T1620": failed to copy: httpReadSeeker: failed open: failed to do request: Get "https://private_registery.mydomain/v2/csg/idrac_to_kafka/blobs/sha256:d0157ca575c725b6dbdc6c7b843b8614963fda6ca619af9932bfbbb39c450c5a": context canceled',
    "PULL_TIMED_OUT",
  ],
  [
    "containerd, 403 by a mirror or a registry (registry.k8s.io#261)",
    "UNKNOWN",
    "registry.k8s.io/pause:3.9",
    'failed to pull and unpack image "registry.k8s.io/pause:3.9": failed to resolve reference "registry.k8s.io/pause:3.9": pulling from host registry.k8s.io failed with status code [manifests 3.9]: 403 Forbidden',
    "PULL_DENIED",
  ],
  [
    "CRI-O, a full disk (cri-o#5187)",
    "UNKNOWN",
    "docker.io/library/nginx:latest",
    'Error writing blob: error storing blob to file "/var/tmp/storage178245615/2": write /var/tmp/storage178245615/2: no space left on device',
    "DISK_FULL",
  ],
  [
    "CRI-O 1.31, no progress for too long (cri-o#8760)",
    "CANCELLED",
    "docker.io/library/nginx:latest",
    "copying system image from manifest list: copying config: context canceled",
    "PULL_TIMED_OUT",
  ],
  [
    "containers/image, of which CRI-O is made, denied by quay.io (sriov-network-operator#988)",
    "UNKNOWN",
    "quay.io/openshift/origin-sriov-cni:latest",
    'Error parsing image name "docker://quay.io/openshift/origin-sriov-cni": reading manifest latest in quay.io/openshift/origin-sriov-cni: unauthorized: access to the requested resource is not authorized',
    "PULL_DENIED",
  ],
  [
    "CRI-O, an error of the registry (origin#16349)",
    "UNKNOWN",
    "docker-registry.default.svc:5000/test-docker/origin-ruby-sample:1",
    "Error reading signatures: received unexpected HTTP status: 500 Internal Server Error",
    "REGISTRY_UNREACHABLE",
  ],
  ["words nobody has seen", "UNKNOWN", "docker.io/a/b:1", "the flux is out of phase", "UNKNOWN"],
];

describe("PullError.from()", () => {
  for (const [what, status, reference, text, code] of [...containerd24, ...others]) {
    test(`reads ${what} as ${code}`, () => {
      const error = PullError.from(reference, new RpcError(status, text));

      assert.equal(error.code, code);
      assert.equal(error.message, `Cannot pull image "${reference}": ${code}`);
      assert.equal(error.retryable, code !== "IMAGE_NOT_FOUND" && code !== "PULL_DENIED");
    });
  }

  test("goes by the status where the words say nothing", () => {
    const codes = rpcCodes.map((status) => [
      status,
      PullError.from("docker.io/a/b:1", new RpcError(status, "x")).code,
    ]);

    assert.deepEqual(
      codes.filter(([, code]) => code !== "UNKNOWN"),
      [
        ["CANCELLED", "PULL_TIMED_OUT"],
        ["DEADLINE_EXCEEDED", "PULL_TIMED_OUT"],
        ["NOT_FOUND", "IMAGE_NOT_FOUND"],
        ["PERMISSION_DENIED", "PULL_DENIED"],
        ["UNAVAILABLE", "RUNTIME_UNAVAILABLE"],
        ["UNAUTHENTICATED", "PULL_DENIED"],
      ],
    );
  });

  test("knows a lost connection from a registry that cannot be reached", () => {
    const lost = new RuntimeUnavailableError("connection refused");

    assert.equal(PullError.from("docker.io/a/b:1", lost).code, "RUNTIME_UNAVAILABLE");
  });

  test("takes no word of an image's name for the runtime's", () => {
    const reference = "registry.test/denied:/toomanyrequests/x509:unauthorized";
    const text = `failed to pull and unpack image "${reference}": failed to resolve image: ${reference}: the flux is out of phase`;

    assert.equal(PullError.from(reference, new RpcError("UNKNOWN", text)).code, "UNKNOWN");
  });

  test("gives a reason that starts with what happened and stays the same in every attempt", () => {
    const reasons = [46688, 51085].map((port) => {
      const text = `failed to pull and unpack image "docker.io/a/b:1": failed to resolve image: read tcp 192.0.2.7:${port}->192.0.2.9:443: read: connection reset by peer`;
      return PullError.from("docker.io/a/b:1", new RpcError("UNKNOWN", text)).reason;
    });

    assert.deepEqual(
      [...new Set(reasons)],
      ["failed to resolve image: read tcp 192.0.2.9:443: read: connection reset by peer"],
    );
  });

  test("keeps passwords, user parts and queries out of itself and its causes", () => {
    const text =
      "oauth: hunter22 at https://user:hunter22@auth.test/token?password=hunter22 said Basic dXNlcjpodW50ZXIyMg==";
    const error = PullError.from("docker.io/a/b:1", new RpcError("UNKNOWN", text), ["hunter22"]);

    assert.equal(error.reason, "oauth: *** at https://auth.test/token said Basic ***");
    for (let e: unknown = error; e instanceof Error; e = e.cause) {
      assert.doesNotMatch(`${e.message} ${e.stack}`, /hunter22|dXNlcj/);
    }
  });

  test("holds message and reason at 256 characters, whatever the runtime says", () => {
    fc.assert(
      fc.property(anyText(600), fc.string({ maxLength: 600 }), (text, reference) => {
        const error = PullError.from(reference, new RpcError("UNKNOWN", text));
        assert.ok(error.reason.length <= 256 && error.message.length <= 256);
      }),
    );
  });
});
