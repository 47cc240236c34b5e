import {
  createPrivateKey,
  generateKeyPairSync,
  hash,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from "node:crypto";

import * as asn1 from "asn1js";

/** A certificate and its key, both in PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** From when until when a certificate is good. Fractions of a second are dropped. */
export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Makes a certificate authority of its own (RFC 5280): ECDSA on P-256, for servers' certificates. */
export function issueAuthority(validity: Validity): KeyPair {
  const { publicKey, privateKey } = newKeys();
  const serial = newSerial();
  // No two have one name: a client that knows the old and the new one must not mix them up.
  const name = distinguishedName(`Coral CA ${serial.subarray(0, 4).toString("hex")}`);
  const id = keyId(publicKey);
  // Good for certificates of servers, not for more authorities; for keyCertSign and cRLSign.
  const extensions = [
    extension(oid.basicConstraints, sequence(new asn1.Boolean({ value: true }), integer(0)), true),
    extension(oid.keyUsage, bits(0x06, 1), true),
    extension(oid.subjectKeyIdentifier, octets(id)),
    extension(oid.authorityKeyIdentifier, sequence(tagged(0, id))),
  ];
  const parts = { serial, issuer: name, subject: name, validity, publicKey, extensions };
  return { cert: certificate(parts, privateKey), key: pemOf(privateKey) };
}

/**
 * Makes a server's certificate, good for TLS under the given DNS names and nothing else.
 *
 * @throws {Error} if the authority's certificate or key is not PEM.
 */
export function issueServing(
  authority: KeyPair,
  { dnsNames, ...validity }: Validity & { dnsNames: readonly string[] },
): KeyPair {
  const { publicKey, privateKey } = newKeys();
  const issuer = new X509Certificate(authority.cert);
  const names = dnsNames.map((name) => tagged(2, Buffer.from(name, "ascii")));
  // No authority; for digitalSignature.
  const extensions = [
    extension(oid.basicConstraints, sequence(), true),
    extension(oid.keyUsage, bits(0x80, 7), true),
    extension(oid.extendedKeyUsage, sequence(objectId(oid.serverAuth))),
    extension(oid.subjectAltName, sequence(...names)),
    extension(oid.subjectKeyIdentifier, octets(keyId(publicKey))),
    extension(oid.authorityKeyIdentifier, sequence(tagged(0, keyId(issuer.publicKey)))),
  ];
  const parts = {
    serial: newSerial(),
    issuer: subjectOf(issuer),
    subject: distinguishedName("coral"),
    validity,
    publicKey,
    extensions,
  };
  return { cert: certificate(parts, createPrivateKey(authority.key)), key: pemOf(privateKey) };
}

const oid = {
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
};

interface CertificateParts {
  readonly serial: Buffer;
  readonly issuer: asn1.AsnType;
  readonly subject: asn1.AsnType;
  readonly validity: Validity;
  readonly publicKey: KeyObject;
  readonly extensions: readonly asn1.AsnType[];
}

/** Puts a certificate together (RFC 5280 §4.1) and signs it. */
function certificate(parts: CertificateParts, signer: KeyObject): string {
  const { serial, issuer, subject, validity, publicKey, extensions } = parts;
  const algorithm = sequence(objectId(oid.ecdsaWithSha256));
  const body = sequence(
    explicit(0, integer(2)), // Version 3.
    new asn1.Integer({ valueHex: serial }),
    algorithm,
    issuer,
    sequence(time(validity.notBefore), time(validity.notAfter)),
    subject,
    read(publicKey.export({ type: "spki", format: "der" })),
    explicit(3, sequence(...extensions)),
  );
  const signature = sign("sha256", Buffer.from(body.toBER()), signer);
  const whole = sequence(body, algorithm, new asn1.BitString({ valueHex: signature }));
  return new X509Certificate(Buffer.from(whole.toBER())).toString();
}

function subjectOf({ raw }: X509Certificate): asn1.AsnType {
  const [body] = partsOf(read(raw));
  const subject = body && partsOf(body)[5];
  if (!subject) throw new TypeError("The authority's certificate must have a subject");
  return subject;
}

function read(der: Buffer): asn1.AsnType {
  return asn1.fromBER(der).result;
}

function partsOf(value: asn1.AsnType): readonly asn1.AsnType[] {
  return value instanceof asn1.Constructed ? value.valueBlock.value : [];
}

function newKeys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

function pemOf(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" });
}

/** Positive, and of full length in DER, which must not begin with a byte of zeros. */
function newSerial(): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

/** Any name of the key that the other side finds again will do (RFC 7093 §2). */
function keyId(publicKey: KeyObject): Buffer {
  const key = publicKey.export({ type: "spki", format: "der" });
  return hash("sha256", key, "buffer").subarray(0, 20);
}

function distinguishedName(commonName: string): asn1.AsnType {
  const attribute = sequence(objectId(oid.commonName), new asn1.Utf8String({ value: commonName }));
  return sequence(new asn1.Set({ value: [attribute] }));
}

/** Years from 2050 on are written otherwise (RFC 5280 §4.1.2.5). */
function time(date: Date): asn1.AsnType {
  const valueDate = new Date(Math.floor(date.getTime() / 1_000) * 1_000);
  return valueDate.getUTCFullYear() < 2050
    ? new asn1.UTCTime({ valueDate })
    : new asn1.GeneralizedTime({ valueDate });
}

function extension(id: string, value: asn1.AsnType, isCritical = false): asn1.AsnType {
  const critical = isCritical ? [new asn1.Boolean({ value: true })] : [];
  return sequence(objectId(id), ...critical, octets(Buffer.from(value.toBER())));
}

function sequence(...value: asn1.AsnType[]): asn1.Sequence {
  return new asn1.Sequence({ value });
}

function integer(value: number): asn1.AsnType {
  return new asn1.Integer({ value });
}

function objectId(value: string): asn1.AsnType {
  return new asn1.ObjectIdentifier({ value });
}

function octets(valueHex: Buffer): asn1.AsnType {
  return new asn1.OctetString({ valueHex });
}

function bits(byte: number, unusedBits: number): asn1.AsnType {
  return new asn1.BitString({ valueHex: Buffer.of(byte), unusedBits });
}

const contextSpecific = 3;

function explicit(tagNumber: number, value: asn1.AsnType): asn1.AsnType {
  const idBlock = { tagClass: contextSpecific, tagNumber };
  return new asn1.Constructed({ idBlock, value: [value] });
}

function tagged(tagNumber: number, valueHex: Buffer): asn1.AsnType {
  return new asn1.Primitive({ idBlock: { tagClass: contextSpecific, tagNumber }, valueHex });
}
