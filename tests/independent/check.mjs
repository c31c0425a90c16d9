#!/usr/bin/env node
// Verifies and signs Doorward's documents, from nothing but FORMATS.md, protocol.md and protocol-witness.md.
//
//   node check.mjs < commands.json
//
// In comes one command or a list of them, `{"do": name, ...}`, out one answer or a list:
// `{"ok": true, ...}` or `{"ok": false, "why": text}`. Bytes are base64, notes are text. Node.js 18 or newer, no
// packages. Exit status 0 once every command was answered, 2 if there was no understanding the input.

import { readFileSync } from "node:fs";

import { adopt, checkAct, checkIntroduction, checkSwitch, checkToken, inForce } from "./documents.mjs";
import { checkCheckpoint, checkConsistency, checkCosignature, checkInclusion, checkReceipt, leafHash } from "./ledger.mjs";
import { Refusal, idOf, parse, privateKey, readEnvelope, signed, signersOf } from "./strict.mjs";

const raw = (text) => Buffer.from(text, "base64");
const all = (texts) => texts.map(raw);
const shown = ({ root, ...rest }) => ({ ...rest, root: root.toString("base64") });
const answered = (envelope) => ({ envelope: envelope.toString("base64"), id: idOf(readEnvelope(envelope).payload) });
const keysFrom = (seeds) => all(seeds).map(privateKey);

const COMMANDS = {
  json: ({ data }) => ({ value: parse(raw(data)) }),
  envelope: ({ data, type, keys }) => {
    const envelope = readEnvelope(raw(data));
    return { signers: [...signersOf(envelope, type, all(keys))].sort(), id: idOf(envelope.payload) };
  },
  charter: ({ data, charters }) => {
    const made = adopt(charters.length > 0 ? inForce(all(charters)) : null, raw(data));
    return { id: made.id, household: made.householdId, version: made.version };
  },
  token: ({ data, charters }) => checkToken(inForce(all(charters)), raw(data)),
  switch: ({ data, charters, type }) => checkSwitch(inForce(all(charters)), type, raw(data)),
  act: ({ data, charters }) => checkAct(inForce(all(charters)), raw(data)),
  introduction: ({ data, previous }) => checkIntroduction(raw(data), previous ? raw(previous) : null),
  checkpoint: ({ note, origin, key }) => shown(checkCheckpoint(note, origin, raw(key))),
  cosignature: ({ note, origin, name, key }) => shown(checkCosignature(note, origin, name, raw(key))),
  inclusion: ({ entry, index, size, proof, root }) => {
    checkInclusion(leafHash(raw(entry)), index, size, all(proof), raw(root));
    return {};
  },
  consistency: ({ old_size, old_root, size, root, proof }) => {
    checkConsistency(old_size, raw(old_root), size, raw(root), all(proof));
    return {};
  },
  receipt: ({ data, origin, key }) => checkReceipt(raw(data), origin, raw(key)),

  "sign-token": ({ household, device, agency, camera, area, begin, end, nonce, seeds }) =>
    answered(
      signed(
        "token",
        {
          from: household,
          to: agency,
          household,
          device,
          operators: [],
          purpose: { kind: "incident", reference: "n\u00ba 7 \u{1f6aa}" },
          scope: {
            mode: "live",
            cameras: [camera],
            not_before: begin,
            not_after: end,
            areas: [area],
            session_seconds: 60,
          },
          terms: { forwarding: false, analysis: false, retention_days: 30 },
          epoch: 0,
          nonce,
        },
        keysFrom(seeds),
      ),
    ),
  "sign-revocation": ({ household, token, nonce, seeds }) =>
    answered(signed("revocation", { from: household, to: "devices", household, token, nonce }, keysFrom(seeds))),
  "sign-act": ({ household, device, challenge, signed_at, seen, documents, seeds }) => {
    const keys = keysFrom(seeds);
    const payload = { from: keys[0].id, to: device, household, challenge, signed_at, seen, documents };
    return answered(signed("act", payload, keys));
  },
};

function answer(command) {
  try {
    return { ok: true, ...COMMANDS[command.do](command) };
  } catch (error) {
    // Anything else is a mistake of this program, and ends it.
    if (!(error instanceof Refusal)) throw error;
    return { ok: false, why: error.message };
  }
}

let input;
try {
  input = JSON.parse(readFileSync(0, "utf-8"));
  for (const each of [input].flat()) if (!Object.hasOwn(COMMANDS, each.do)) throw new Error(`no command ${each.do}`);
} catch (error) {
  console.error(`check.mjs: ${error.message}`);
  process.exit(2);
}
process.stdout.write(`${JSON.stringify(Array.isArray(input) ? input.map(answer) : answer(input))}\n`);
