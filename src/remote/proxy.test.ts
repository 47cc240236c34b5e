import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { parseProxies, proxyFor } from "./proxy.ts";

const http = "http://plain.proxy:3128";
const https = "http://tls.proxy:3128";

function proxyOf(url: string, except = ""): string | undefined {
  const settings = parseProxies({ HTTP_PROXY: http, HTTPS_PROXY: https, NO_PROXY: except });
  return proxyFor(new URL(url), settings)?.origin;
}

describe("proxyFor()", () => {
  test("goes by the scheme of the address", () => {
    assert.equal(proxyOf("https://a.test/v2/"), https);
    assert.equal(proxyOf("http://a.test/v2/"), http);
  });

  test("asks this machine directly", () => {
    for (const url of ["http://localhost:5000", "http://127.0.0.9:5000", "https://[::1]:5000"]) {
      assert.equal(proxyOf(url), undefined, url);
    }
  });

  test("asks directly where there is no proxy for the scheme", () => {
    assert.equal(
      proxyFor(new URL("https://a.test"), parseProxies({ http_proxy: http })),
      undefined,
    );
    assert.equal(proxyFor(new URL("https://a.test"), undefined), undefined);
  });

  const exceptions: [except: string, direct: string[], proxied: string[]][] = [
    ["a.test", ["https://a.test", "https://A.test.", "https://b.a.test"], ["https://ba.test"]],
    [".a.test, x", ["https://b.a.test", "https://x"], ["https://a.test"]],
    ["*.a.test", ["https://b.a.test"], ["https://a.test"]],
    ["a.test:5000", ["https://a.test:5000"], ["https://a.test"]],
    ["a.test:443", ["https://a.test"], ["https://a.test:5000"]],
    ["10.0.0.0/8", ["https://10.1.2.3"], ["https://11.1.2.3", "https://a.test"]],
    ["10.1.2.3", ["https://10.1.2.3:5000"], ["https://10.1.2.30"]],
    ["fd00::/8 [fc00::1]:443", ["https://[fd12::1]", "https://[fc00::1]"], ["https://[fc00::2]"]],
    ["fc00::1", ["https://[fc00::1]:5000"], ["https://[fc00::2]"]],
    ["*", ["https://a.test", "http://10.1.2.3"], []],
    ["10.0.0.0/99,1/2/3,:,[", [], ["https://10.1.2.3", "https://a.test"]],
  ];
  for (const [except, direct, proxied] of exceptions) {
    test(`takes ${JSON.stringify(except)} for exceptions`, () => {
      for (const url of direct) assert.equal(proxyOf(url, except), undefined, url);
      for (const url of proxied) assert.equal(proxyOf(url, except), https, url);
    });
  }
});

describe("parseProxies()", () => {
  test("takes names in lower case first, and an address without its scheme", () => {
    const found = parseProxies({ HTTP_PROXY: http, http_proxy: "other.proxy:8080" });

    assert.equal(found?.http?.href, "http://other.proxy:8080/");
  });

  test("finds none where none is set", () => {
    assert.equal(parseProxies({ NO_PROXY: "a.test", HTTPS_PROXY: "" }), undefined);
  });

  test("refuses what is no proxy without quoting it", () => {
    assert.throws(() => parseProxies({ HTTPS_PROXY: "socks5://anna:anemone@a.test" }), {
      message: 'HTTPS_PROXY must be an address like "http://proxy.example:3128"',
    });
  });
});
