// Proofs, signed notes, checkpoints, cosignatures, receipts: docs/protocol.md section 8, docs/protocol-witness.md,
// RFC 9162 sections 2.1.3.2 and 2.1.4.2, c2sp.org/signed-note.

import * as is from "./strict.mjs";
import { fromBase64, isSigned, refuse, sha256 } from "./strict.mjs";

export const leafHash = (entry) => sha256(Buffer.of(0), entry);
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right);

// Sizes reach 2^53 - 1, where >> of plain numbers would lie.
const odd = (number) => (number & 1n) === 1n;

export function checkInclusion(leaf, index, size, proof, root) {
  if (index >= size) refuse("inclusion: no such leaf");
  let [fn, sn] = [BigInt(index), BigInt(size) - 1n];
  let r = leaf;
  for (const p of proof) {
    if (sn === 0n) refuse("inclusion: proof too long");
    if (odd(fn) || fn === sn) {
      r = nodeHash(p, r);
      while (!odd(fn) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      r = nodeHash(r, p);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  if (sn !== 0n) refuse("inclusion: proof too short");
  if (!r.equals(root)) refuse("inclusion: another root");
}

export function checkConsistency(first, firstRoot, second, secondRoot, proof) {
  if (first < 1 || first > second) refuse("consistency: sizes");
  if (first === second) {
    if (proof.length > 0 || !firstRoot.equals(secondRoot)) refuse("consistency: equal sizes, another root");
    return;
  }
  if (proof.length === 0) refuse("consistency: no proof");
  let [fn, sn] = [BigInt(first) - 1n, BigInt(second) - 1n];
  const isPowerOfTwo = (BigInt(first) & fn) === 0n;
  const [start, ...path] = isPowerOfTwo ? [firstRoot, ...proof] : proof;
  while (odd(fn)) [fn, sn] = [fn >> 1n, sn >> 1n];
  let [fr, sr] = [start, start];
  for (const c of path) {
    if (sn === 0n) refuse("consistency: proof too long");
    if (odd(fn) || fn === sn) {
      [fr, sr] = [nodeHash(c, fr), nodeHash(c, sr)];
      while (!odd(fn) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      sr = nodeHash(sr, c);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  if (sn !== 0n) refuse("consistency: proof too short");
  if (!fr.equals(firstRoot) || !sr.equals(secondRoot)) refuse("consistency: another root");
}

const ED25519 = 0x01;
const COSIGNATURE = 0x04;
const noteKeyId = (name, kind, raw) => sha256(Buffer.from(`${name}\n`), Buffer.of(kind), raw).subarray(0, 4);

function readNote(note) {
  if (typeof note !== "string" || /[\x00-\x09\x0b-\x1f]/.test(note)) refuse("note: control characters");
  if ([...note].length > 131_072) refuse("note: too large");
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || !note.endsWith("\n")) refuse("note: no signatures after an empty line");
  const signatures = note.slice(end + 2, -1).split("\n").map((line) => {
    const parts = /^\u2014 ([^\s+]+) (\S+)$/u.exec(line) ?? refuse("note: not a signature line");
    const data = fromBase64(parts[2], "note: signature");
    if (data.length <= 4) refuse("note: signature too short");
    return { name: parts[1], keyId: data.subarray(0, 4), data: data.subarray(4) };
  });
  if (signatures.length > 16) refuse("note: too many signatures");
  return { text: note.slice(0, end + 1), signatures };
}

function signaturesOf(note, name, kind, raw) {
  const keyId = noteKeyId(name, kind, raw);
  const mine = note.signatures.filter((each) => each.name === name && each.keyId.equals(keyId));
  return mine.length > 0 ? mine.map((each) => each.data) : refuse(`note: not signed by ${name}`);
}

function readCheckpoint(text, origin) {
  const lines = text.slice(0, -1).split("\n");
  if (lines.length !== 3) refuse("checkpoint: not three lines");
  if (lines[0] !== origin) refuse("checkpoint: another origin");
  if (!/^(?:0|[1-9][0-9]*)$/.test(lines[1]) || !Number.isSafeInteger(Number(lines[1]))) refuse("checkpoint: size");
  return { size: Number(lines[1]), root: is.bytes(32)(lines[2], "checkpoint: root") };
}

export function checkCheckpoint(note, origin, raw) {
  const read = readNote(note);
  for (const signature of signaturesOf(read, origin, ED25519, raw)) {
    if (!isSigned(raw, Buffer.from(read.text), signature)) refuse("checkpoint: signature");
  }
  return readCheckpoint(read.text, origin);
}

export function checkCosignature(note, origin, name, raw) {
  const read = readNote(note);
  let newest = 0;
  for (const data of signaturesOf(read, name, COSIGNATURE, raw)) {
    if (data.length !== 72) refuse("cosignature: length");
    const time = data.readBigUInt64BE();
    if (time === 0n || time > 1n << 33n) refuse("cosignature: time");
    const message = Buffer.from(`cosignature/v1\ntime ${time}\n${read.text}`);
    if (!isSigned(raw, message, data.subarray(8))) refuse("cosignature: signature");
    newest = Math.max(newest, Number(time));
  }
  return { ...readCheckpoint(read.text, origin), time: newest };
}

const hex32 = is.matching(/^[0-9a-f]{32}$/);
const nanoseconds = is.matching(/^-?[0-9]+$/);
const nanosecondsOrNull = (value, where) => (value === null ? null : nanoseconds(value, where));
const anyObject = (value, where) =>
  value !== null && typeof value === "object" && !Array.isArray(value) ? value : refuse(`${where}: not an object`);

const entryType = is.record({
  body: anyObject,
  kind: is.text(40),
  salt: hex32,
  v: is.integer(0, 0),
  time: is.record({
    boot: hex32,
    t_boot_ns: nanoseconds,
    earliest_ns: nanosecondsOrNull,
    latest_ns: nanosecondsOrNull,
    quality: is.oneOf("authenticated", "plausible", "untrusted"),
  }),
});

const receiptType = is.record({
  v: is.integer(0, 0),
  entry: is.bytesUpTo(262_144),
  index: is.integer(0, Number.MAX_SAFE_INTEGER),
  proof: is.list(64, is.bytes(32)),
  checkpoint: is.lines(131_072),
});

export function checkReceipt(data, origin, raw) {
  const receipt = receiptType(is.parse(data, 524_288), "receipt");
  const { size, root } = checkCheckpoint(receipt.checkpoint, origin, raw);
  checkInclusion(leafHash(receipt.entry), receipt.index, size, receipt.proof, root);
  const entry = entryType(is.parse(receipt.entry, 262_144), "entry");
  return { kind: entry.kind, body: entry.body, index: receipt.index, size };
}
