// Strict JSON, the values of FORMATS.md section 3, and DSSE envelopes (section 1). Written from the documents alone.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";

export class Refusal extends Error {}

export function refuse(why) {
  throw new Refusal(why);
}

export const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export const idOf = (bytes) => `sha256:${sha256(bytes).toString("hex")}`;

// Section 2. JSON.parse takes doubled keys, fractions and half surrogates, so it cannot be used.

const NESTING = 16;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  space() {
    while (this.at < this.text.length && " \t\n\r".includes(this.text[this.at])) this.at += 1;
  }

  takes(character) {
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  expect(character) {
    if (!this.takes(character)) refuse(`json: expected ${character} at ${this.at}`);
  }

  matched(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found !== null) this.at = pattern.lastIndex;
    return found === null ? null : found[0];
  }

  value(depth) {
    this.space();
    const first = this.text[this.at];
    let value;
    if (first === "{") value = this.object(depth + 1);
    else if (first === "[") value = this.list(depth + 1);
    else if (first === '"') value = this.string();
    else value = this.scalar();
    this.space();
    return value;
  }

  scalar() {
    const word = this.matched(/true|false|null/y);
    if (word !== null) return { true: true, false: false, null: null }[word];
    const digits = this.matched(/-?(?:0|[1-9][0-9]*)(?![0-9.eE])/y);
    if (digits === null) refuse(`json: no value at ${this.at}`);
    const number = Number(digits);
    if (!Number.isSafeInteger(number)) refuse("json: integer outside 2^53 - 1");
    return number;
  }

  string() {
    this.expect('"');
    let text = "";
    for (;;) {
      const character = this.text[this.at];
      if (character === undefined || character < " ") refuse(`json: broken text at ${this.at}`);
      this.at += 1;
      if (character === '"') break;
      text += character === "\\" ? this.escape() : character;
    }
    // With the u flag only an unpaired half is of category Cs.
    if (/\p{Cs}/u.test(text)) refuse("json: half a surrogate pair");
    return text;
  }

  escape() {
    const code = this.matched(/u[0-9a-fA-F]{4}/y);
    if (code !== null) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    const letter = this.text[this.at];
    if (letter === undefined || !Object.hasOwn(ESCAPES, letter)) refuse(`json: escape at ${this.at}`);
    this.at += 1;
    return ESCAPES[letter];
  }

  object(depth) {
    if (depth > NESTING) refuse("json: nested too deeply");
    // Without a prototype "__proto__" is a key like any other.
    const object = Object.create(null);
    this.expect("{");
    this.space();
    if (this.takes("}")) return object;
    do {
      this.space();
      const key = this.string();
      if (key in object) refuse(`json: ${key} stands twice`);
      this.space();
      this.expect(":");
      object[key] = this.value(depth);
    } while (this.takes(","));
    this.expect("}");
    return object;
  }

  list(depth) {
    if (depth > NESTING) refuse("json: nested too deeply");
    const list = [];
    this.expect("[");
    this.space();
    if (this.takes("]")) return list;
    do list.push(this.value(depth));
    while (this.takes(","));
    this.expect("]");
    return list;
  }
}

export function parse(bytes, limit = 65_536) {
  if (bytes.length > limit) refuse(`json: ${bytes.length} bytes`);
  let text;
  try {
    // ignoreBOM keeps a byte order mark, which then is no JSON.
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    refuse("json: not UTF-8");
  }
  const parser = new Parser(text);
  const value = parser.value(0);
  if (parser.at !== text.length) refuse("json: something after the end");
  return value;
}

const byCodePoint = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));

// Compact, keys sorted by code point. UTF-8 sorts as code points do; UTF-16 does not.
export function write(value) {
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const keys = Object.keys(value).sort(byCodePoint);
  return `{${keys.map((key) => `${JSON.stringify(key)}:${write(value[key])}`).join(",")}}`;
}

// Section 3. A type is a function of a value and of where it stands that returns what it means, or refuses.

export function fromBase64(text, where) {
  if (typeof text !== "string") refuse(`${where}: not text`);
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) refuse(`${where}: not canonical base64`);
  return bytes;
}

const OPTIONAL = Symbol("optional");

export const optional = (type) => ({ [OPTIONAL]: true, type });

export const record = (fields) => (value, where) => {
  if (value === null || typeof value !== "object" || Array.isArray(value)) refuse(`${where}: not an object`);
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(fields, name)) refuse(`${where}: unknown field ${name}`);
  }
  const result = {};
  for (const [name, field] of Object.entries(fields)) {
    const given = name in value ? value[name] : undefined;
    if (!field[OPTIONAL]) {
      if (given === undefined) refuse(`${where}: ${name} is missing`);
      result[name] = field(given, `${where}: ${name}`);
    } else if (given !== undefined && given !== null) {
      result[name] = field.type(given, `${where}: ${name}`);
    }
  }
  return result;
};

export const list = (most, type, least = 0) => (value, where) => {
  if (!Array.isArray(value) || value.length > most || value.length < least) refuse(`${where}: not such a list`);
  return value.map((each) => type(each, where));
};

export const integer = (least, most) => (value, where) =>
  Number.isSafeInteger(value) && value >= least && value <= most ? value : refuse(`${where}: got ${write(value)}`);

export const flag = (value, where) => (typeof value === "boolean" ? value : refuse(`${where}: not true or false`));

export const oneOf = (...words) => (value, where) =>
  words.includes(value) ? value : refuse(`${where}: got ${write(value)}`);

export const matching = (pattern) => (value, where) =>
  typeof value === "string" && pattern.test(value) ? value : refuse(`${where}: got ${write(value)}`);

export const id = matching(/^sha256:[0-9a-f]{64}$/);
export const name = matching(/^[a-z0-9][a-z0-9_-]{0,39}$/);

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;

const characters = (most, where, value, shown) => {
  if (typeof value !== "string" || value === "" || [...value].length > most) refuse(`${where}: not such a text`);
  return UNPRINTABLE.test(shown) ? refuse(`${where}: unprintable`) : value;
};

export const text = (most) => (value, where) => characters(most, where, value, value);
export const lines = (most) => (value, where) =>
  characters(most, where, value, typeof value === "string" ? value.replace(/[\r\n]/g, "") : "");

export const bytes = (length) => (value, where) => {
  const data = fromBase64(value, where);
  return data.length === length ? data : refuse(`${where}: ${data.length} bytes`);
};

export const bytesUpTo = (most) => (value, where) => {
  const data = fromBase64(value, where);
  return data.length >= 1 && data.length <= most ? data : refuse(`${where}: ${data.length} bytes`);
};

// Seconds since 1970.
export const time = (value, where) => {
  matching(/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/)(value, where);
  const milliseconds = Date.parse(value);
  if (Number.isNaN(milliseconds) || new Date(milliseconds).toISOString() !== value.replace("Z", ".000Z")) {
    refuse(`${where}: no such time`);
  }
  return milliseconds / 1000;
};

const ends = (first, fill, last) => first + fill.repeat(30) + last;
const COMMON = [ends("00", "00", "00"), ends("01", "00", "00"), ...["ec", "ed", "ee"].map((y) => ends(y, "ff", "7f"))];
const SMALL = {
  ed25519: [
    ...COMMON,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  ],
  x25519: [
    ...COMMON,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  ],
};

export function isSmall(kind, raw) {
  const without = Buffer.from(raw);
  without[31] &= 0x7f;
  return SMALL[kind].includes(without.toString("hex"));
}

const key = (kind) => (value, where) => {
  const raw = bytes(32)(value, where);
  return isSmall(kind, raw) ? refuse(`${where}: a key of small order`) : raw;
};

export const signingKey = key("ed25519");
export const sealingKey = key("x25519");

// Ed25519 over raw keys.

export function isSigned(raw, message, signature) {
  if (raw.length !== 32 || signature.length !== 64 || isSmall("ed25519", raw)) return false;
  const jwk = { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") };
  return verify(null, message, createPublicKey({ key: jwk, format: "jwk" }), signature);
}

// RFC 8410: what stands before the 32 bytes of a private key in PKCS #8.
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

export function privateKey(seed) {
  const secret = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: "der", type: "pkcs8" });
  const raw = Buffer.from(createPublicKey(secret).export({ format: "jwk" }).x, "base64url");
  return { raw, id: idOf(raw), sign: (message) => sign(null, message, secret) };
}

// Section 1.

export const typeOf = (document) => `application/vnd.doorward.v0.${document}+json`;

const encoded = (type, payload) =>
  Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `), payload]);

function eitherBase64(value, where) {
  if (typeof value !== "string") refuse(`${where}: not text`);
  const urlSafe = /[-_]/.test(value) && !/[+/]/.test(value);
  return fromBase64(urlSafe ? value.replaceAll("-", "+").replaceAll("_", "/") : value, where);
}

// Nothing of it is verified.
export function readEnvelope(data, limit = 65_536) {
  const envelope = parse(data, limit);
  const isObject = envelope !== null && typeof envelope === "object" && !Array.isArray(envelope);
  if (!isObject || typeof envelope.payloadType !== "string") refuse("envelope: not an envelope");
  if (!Array.isArray(envelope.signatures) || envelope.signatures.length > 32) refuse("envelope: signatures");
  const signatures = envelope.signatures.map((each) => eitherBase64(each?.sig, "envelope: sig"));
  return { type: envelope.payloadType, payload: eitherBase64(envelope.payload, "envelope: payload"), signatures };
}

// Which of these keys signed: a set of key ids, never empty.
export function signersOf(envelope, document, keys) {
  if (envelope.type !== typeOf(document)) refuse(`envelope: type ${envelope.type}`);
  const message = encoded(envelope.type, envelope.payload);
  const signers = new Set();
  for (const raw of keys) {
    if (envelope.signatures.some((signature) => isSigned(raw, message, signature))) signers.add(idOf(raw));
  }
  return signers.size > 0 ? signers : refuse("envelope: signed by none of these keys");
}

export function signed(document, payload, keys) {
  const data = Buffer.from(write(payload));
  const type = typeOf(document);
  const signatures = keys.map((each) => ({ keyid: each.id, sig: each.sign(encoded(type, data)).toString("base64") }));
  return Buffer.from(write({ payload: data.toString("base64"), payloadType: type, signatures }));
}
