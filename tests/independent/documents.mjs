// Charters, tokens, what owners switch, acts, introductions: agent/consent/FORMATS.md sections 4 to 10.

import * as is from "./strict.mjs";
import { idOf, optional, parse, readEnvelope, record, refuse, signersOf } from "./strict.mjs";

const corner = is.list(2, is.integer(0, 10_000), 2);
const polygon = is.list(64, corner, 3);
const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const minute = is.matching(/^(?:[01][0-9]|2[0-3]):[0-5][0-9]$/);

const days = (value, where) => {
  const given = is.list(7, is.oneOf(...DAYS), 1)(value, where);
  return new Set(given).size === given.length ? given : refuse(`${where}: a day twice`);
};

const ZONE = /^(?=.{1,60}$)[A-Za-z][A-Za-z0-9_+-]*(?:\/[A-Za-z0-9_+-]+){0,2}$/;
const windows = record({
  zone: is.matching(ZONE),
  windows: is.list(21, record({ days, from: minute, to: minute }), 1),
});

const condition = record({
  agencies: optional(is.list(64, is.id)),
  purposes: optional(is.list(3, is.oneOf("incident", "standing", "drill"))),
  modes: optional(is.list(2, is.oneOf("live", "footage"))),
  alarm: optional(is.flag),
  hours: optional(windows),
});

const limit = optional(is.integer(1, 2 ** 31 - 1));
const CAPS = { seconds: limit, height: limit, fps: limit, viewers: limit };
const WHEN = { when: optional(condition), unless: optional(condition) };
const rules = {
  deny: record({ effect: is.oneOf("deny"), ...WHEN }),
  "require-alarm": record({ effect: is.oneOf("require-alarm"), ...WHEN }),
  cap: record({ effect: is.oneOf("cap"), ...WHEN, ...CAPS }),
};

function rule(value, where) {
  const effect = is.oneOf(...Object.keys(rules))(value?.effect, where);
  const read = rules[effect](value, where);
  if (effect === "cap" && !Object.keys(CAPS).some((cap) => read[cap] !== undefined)) refuse(`${where}: caps nothing`);
  const conditions = Object.values(read.unless ?? { alarm: true });
  if (!conditions.some((each) => !Array.isArray(each) || each.length > 0)) refuse(`${where}: empty unless`);
  return read;
}

const owner = record({
  name: is.text(60),
  root: is.signingKey,
  recovery: is.sealingKey,
  daily: is.list(16, record({ label: is.text(60), signing: is.signingKey, archive: is.sealingKey })),
});

const agency = record({
  name: is.text(100),
  signing: is.signingKey,
  seal: is.sealingKey,
  answers: is.oneOf("pending", "denied"),
  max_seconds: is.integer(1, 2_592_000),
});

const witness = record({
  name: (value, where) => (/[\s+]/u.test(is.text(100)(value, where)) ? refuse(`${where}: space or plus`) : value),
  key: is.signingKey,
  url: is.matching(/^(?=.{1,500}$)(?:https:\/\/[^/\s]+|http:\/\/(?:127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?)(?:\/\S*)?$/),
});

const charterFields = {
  from: is.oneOf("owners"),
  to: is.oneOf("devices"),
  version: is.integer(1, 2 ** 31),
  household: (value, where) => (value === "self" ? value : is.id(value, where)),
  owners: is.list(16, owner, 1),
  granting: is.integer(1, 16),
  governing: is.integer(1, 16),
  daily_limits: record({ max_seconds: is.integer(0, 2_592_000), standing: is.flag }),
  devices: is.list(64, record({ name: is.name, signing: is.signingKey }), 1),
  agencies: is.list(64, agency),
  cameras: is.list(
    64,
    record({
      name: is.name,
      device: is.id,
      never: is.list(64, polygon),
      areas: is.list(64, record({ name: is.name, polygon })),
    }),
  ),
  rules: is.list(64, rule),
  post: optional(record({ host: is.text(253), port: is.integer(1, 65_535) })),
  ice: is.oneOf("relay", "all"),
  rollback: is.oneOf("confirm", "warn"),
  accept_plausible_time: is.flag,
  indicator_required: is.flag,
  alarm_max_seconds: optional(is.integer(0, 2_592_000)),
  witnesses: optional(is.list(8, witness)),
};
const firstCharter = record(charterFields);
const laterCharter = record({ ...charterFields, previous: is.id });

function distinct(values, what) {
  if (new Set(values).size !== values.length) refuse(`${what}: one stands twice`);
}

function readCharter(payload) {
  const value = parse(payload);
  const charter = (value?.version === 1 ? firstCharter : laterCharter)(value, "charter");
  const names = (list) => list.map((each) => each.name);
  if (charter.granting > charter.owners.length || charter.governing > charter.owners.length) {
    refuse("charter: more than there are owners");
  }
  const keys = [
    ...charter.owners.flatMap((each) => [each.root, each.recovery]),
    ...charter.owners.flatMap((each) => each.daily.flatMap((daily) => [daily.signing, daily.archive])),
    ...charter.devices.map((each) => each.signing),
    ...charter.agencies.flatMap((each) => [each.signing, each.seal]),
    ...(charter.witnesses ?? []).map((each) => each.key),
  ];
  distinct(keys.map((key) => key.toString("hex")), "charter: keys");
  distinct(names(charter.cameras), "charter: cameras");
  distinct(names(charter.witnesses ?? []), "charter: witnesses");
  charter.deviceIds = charter.devices.map((each) => idOf(each.signing));
  charter.agencyIds = charter.agencies.map((each) => idOf(each.signing));
  for (const camera of charter.cameras) {
    distinct(names(camera.areas), "charter: areas");
    if (!charter.deviceIds.includes(camera.device)) refuse("charter: a camera of no device");
  }
  if ((charter.version === 1) !== (charter.household === "self")) refuse("charter: household");
  return { ...charter, id: idOf(payload), householdId: charter.version === 1 ? idOf(payload) : charter.household };
}

// Distinct owners, by index, among those who signed; with root keys alone, or with any.
const rootsOf = (charter) => charter.owners.map((each) => [each.root]);
const keysOf = (charter) => charter.owners.map((each) => [each.root, ...each.daily.map((daily) => daily.signing)]);
const countOf = (groups, signers) => groups.filter((keys) => keys.some((key) => signers.has(idOf(key)))).length;

// The charter in force after this one (null: before the first).
export function adopt(current, data) {
  const envelope = readEnvelope(data);
  const charter = readCharter(envelope.payload);
  const roots = [...rootsOf(charter), ...(current === null ? [] : rootsOf(current))].flat();
  const signers = signersOf(envelope, "charter", roots);
  const count = countOf(rootsOf(charter), signers);
  if (current === null) {
    if (charter.version !== 1 || count !== charter.owners.length) refuse("charter: not signed by every owner");
    return charter;
  }
  const follows =
    charter.household === current.householdId &&
    charter.version === current.version + 1 &&
    charter.previous === current.id;
  if (!follows) refuse("charter: does not follow the one in force");
  if (countOf(rootsOf(current), signers) < current.governing) refuse("charter: old threshold");
  if (count < charter.governing) refuse("charter: new threshold");
  return charter;
}

export const inForce = (envelopes) =>
  envelopes.length > 0 ? envelopes.reduce(adopt, null) : refuse("charter: none");

const interval = record({ begin: is.time, end: is.time });
const footage = (value, where) => {
  if (value !== null && typeof value === "object" && "max_age_seconds" in value) {
    return record({ max_age_seconds: is.integer(1, 316_224_000) })(value, where);
  }
  const read = interval(value, where);
  return read.begin < read.end ? read : refuse(`${where}: ends before it begins`);
};

const tokenType = record({
  from: is.id,
  to: is.id,
  household: is.id,
  device: is.id,
  operators: is.list(64, is.id),
  re: optional(is.id),
  purpose: record({
    kind: is.oneOf("incident", "standing", "drill"),
    reference: is.text(60),
    statement: optional(is.id),
  }),
  scope: record({
    mode: is.oneOf("live", "footage"),
    cameras: is.list(64, is.name, 1),
    not_before: is.time,
    not_after: is.time,
    areas: optional(is.list(64, is.name)),
    redaction: optional(is.list(2, is.oneOf("faces", "moving_outside_area"))),
    max_height: optional(is.integer(1, 2160)),
    max_fps: optional(is.integer(1, 120)),
    session_seconds: optional(is.integer(0, 31_622_400)),
    total_seconds: optional(is.integer(0, 31_622_400)),
    sessions: optional(is.integer(1, 1_000_000)),
    viewers: optional(is.integer(1, 64)),
    needs_alarm: optional(is.flag),
    windows: optional(windows),
    footage: optional(footage),
  }),
  terms: record({ forwarding: is.flag, analysis: is.flag, retention_days: is.integer(0, 36_500) }),
  epoch: is.integer(0, 2 ** 31),
  nonce: is.bytes(16),
});

// Granted, and fit to be accepted under this charter by the device it names.
export function checkToken(charter, data) {
  const envelope = readEnvelope(data, 32_768);
  const signers = signersOf(envelope, "token", keysOf(charter).flat());
  const token = tokenType(parse(envelope.payload), "token");
  const { scope } = token;
  if (token.from !== charter.householdId || token.household !== token.from) refuse("token: another household");
  if (!charter.deviceIds.includes(token.device)) refuse("token: another device");
  if (!charter.agencyIds.includes(token.to)) refuse("token: unknown agency");
  if (scope.not_before >= scope.not_after) refuse("token: ends before it begins");
  if (scope.footage !== undefined && scope.mode !== "footage") refuse("token: footage in another mode");
  if (countOf(keysOf(charter), signers) < charter.granting) refuse("token: threshold");
  if (countOf(rootsOf(charter), signers) < charter.granting) {
    const limits = charter.daily_limits;
    if (token.purpose.kind === "standing" && !limits.standing) refuse("token: daily keys grant nothing standing");
    if (scope.not_after - scope.not_before > limits.max_seconds) refuse("token: too long for daily keys");
  }
  return { id: idOf(envelope.payload), signers: [...signers].sort() };
}

// Section 7: more fields, and the word that one owner alone may not say.
const SWITCHES = {
  revocation: [{ token: optional(is.id), agency: optional(is.id) }, null],
  shutter: [{ state: is.oneOf("open", "closed") }, "open"],
  alarm: [{ state: is.oneOf("raised", "cleared") }, "raised"],
  block: [{ agency: is.id, state: is.oneOf("blocked", "unblocked") }, "unblocked"],
  dismissal: [{ request: is.id }, null],
};

export function checkSwitch(charter, document, data) {
  const [more, opens] = SWITCHES[document];
  const envelope = readEnvelope(data);
  const signers = signersOf(envelope, document, keysOf(charter).flat());
  const common = { from: is.id, to: is.oneOf("devices"), household: is.id, nonce: is.bytes(16) };
  const read = record({ ...common, ...more })(parse(envelope.payload), document);
  if (read.from !== charter.householdId || read.household !== read.from) refuse(`${document}: another household`);
  if (document === "revocation" && read.token !== undefined && read.agency !== undefined) refuse("revocation: both");
  if (opens !== null && read.state === opens && countOf(keysOf(charter), signers) < charter.granting) {
    refuse(`${document}: threshold`);
  }
  return { id: idOf(envelope.payload), signers: [...signers].sort() };
}

const actType = record({
  from: is.id,
  to: is.id,
  household: is.id,
  challenge: is.bytes(16),
  signed_at: is.time,
  seen: optional(record({ size: is.integer(0, Number.MAX_SAFE_INTEGER), root: is.bytes(32) })),
  documents: is.list(8, is.bytesUpTo(65_536)),
});

export function checkAct(charter, data) {
  const envelope = readEnvelope(data);
  const signers = signersOf(envelope, "act", keysOf(charter).flat());
  const act = actType(parse(envelope.payload), "act");
  if (!signers.has(act.from)) refuse("act: not signed by whom it is from");
  if (act.household !== charter.householdId || !charter.deviceIds.includes(act.to)) refuse("act: for another");
  const documents = act.documents.map((each) => {
    const kind = /^application\/vnd\.doorward\.v0\.([a-z]+)\+json$/.exec(readEnvelope(each).type)?.[1];
    if (kind === "token") return checkToken(charter, each).id;
    if (kind === "charter" && act.documents.length === 1) return adopt(charter, each).id;
    if (!Object.hasOwn(SWITCHES, kind ?? "")) refuse("act: a document of another kind");
    return checkSwitch(charter, kind, each).id;
  });
  return { id: idOf(envelope.payload), documents };
}

const introductionType = record({
  from: is.id,
  to: is.id,
  household: is.id,
  deciders: is.list(16, record({ root: is.signingKey, daily: is.list(16, is.signingKey) })),
  granting: is.integer(1, 16),
  governing: is.integer(1, 16),
  devices: is.list(64, record({ name: is.name, signing: is.signingKey, seal: is.sealingKey })),
  cameras: is.list(64, record({ name: is.name, device: is.id, areas: is.list(64, is.name) })),
  not_after: is.time,
});

// previous is the introduction of this household that the agency held, as its envelope, or null.
export function checkIntroduction(data, previous) {
  const envelope = readEnvelope(data);
  const read = introductionType(parse(envelope.payload), "introduction");
  if (read.from !== read.household) refuse("introduction: two households");
  const keys = read.deciders.flatMap((each) => [each.root, ...each.daily]);
  distinct(keys.map((key) => key.toString("hex")), "introduction: keys");
  const before = previous === null ? null : introductionType(parse(readEnvelope(previous).payload), "introduction");
  const roots = (introduction) => introduction.deciders.map((each) => [each.root]);
  const signers = signersOf(envelope, "introduction", [...roots(read), ...(before ? roots(before) : [])].flat());
  if (countOf(roots(read), signers) < read.governing) refuse("introduction: threshold");
  if (before !== null) {
    if (before.household !== read.household) refuse("introduction: another household");
    if (countOf(roots(before), signers) < before.governing) refuse("introduction: threshold of the one before");
  }
  return { id: idOf(envelope.payload), household: read.household, agency: read.to, not_after: read.not_after };
}
