/**
 * Promises of the controller in CAP and Identify, and the tables that hold a driver to it.
 * Everything that a driver writes is compared here, before it is used. What does not fit is refused
 * with the status of the specification, NVM Express 1.4.
 *
 * @module
 */

import { BLOCK } from "./disk.ts";
import type { Command } from "./command.ts";
import type { Controller } from "./controller.ts";
import { Failed, Status } from "./status.ts";

/** Bytes of a memory page: CAP.MPSMIN and CAP.MPSMAX are 0. */
export const PAGE = 4096;
/** The only namespace. */
export const NAMESPACE = 1;
/** A namespace id that stands for all of them. */
const ALL_NAMESPACES = 0xffff_ffff;

/** Fields of CAP that are not 0. */
export const CAP = { MQES: 2047, CQR: 1, TO: 15, NCSS: 1 } as const;
/** The VS register: version 1.4. */
export const VERSION = 0x10400;

/** Fields of Identify that limit what a driver may do. */
export const LIMITS = {
  /** A command moves 2^5 pages at most. */
  MDTS: 5,
  /** Entries are of 2^6 and 2^4 bytes, as SQES and CQES say. */
  IOSQES: 6,
  IOCQES: 4,
  /** Aborts, and asynchronous event requests, that may be outstanding, less one. */
  ACL: 3,
  AERL: 3,
  /** Entries of the error log, less one. */
  ELPE: 15,
  /** Power states, less one. */
  NPSS: 0,
  /** Kelvin from which on the controller is too warm. */
  WCTEMP: 343,
} as const;

/**
 * A rule: what it is about, whether it holds, and with which status a command is refused otherwise.
 */
type Rule<A extends unknown[]> = readonly [
  about: string,
  holds: (...args: A) => boolean,
  status?: number,
];

/** Registers by name, with their fields. */
// deno-lint-ignore no-explicit-any -- as of a register map from a file
type Regs = any;

/** Rules for CC, AQA, ASQ and ACQ while CC.EN is 1. A mistake is fatal: CSTS.CFS. */
const ENABLED: readonly Rule<[regs: Regs]>[] = [
  ["CC.CSS is none of CAP's", ({ CC }) => CC.CSS === 0],
  ["CC.MPS is not between CAP.MPSMIN and CAP.MPSMAX", ({ CC }) => CC.MPS === 0],
  ["CC.AMS is none of CAP's", ({ CC }) => CC.AMS === 0],
  ["CC.SHN is reserved", ({ CC }) => CC.SHN !== 3],
  ["CC.IOSQES is not 6", ({ CC }) => CC.IOSQES === 0 || CC.IOSQES === LIMITS.IOSQES],
  ["CC.IOCQES is not 4", ({ CC }) => CC.IOCQES === 0 || CC.IOCQES === LIMITS.IOCQES],
  ["CC.CRIME is set without CAP.CRIMS", ({ CC }) => CC.CRIME === 0],
  ["AQA.ASQS is less than 2 entries", ({ AQA }) => AQA.ASQS >= 1],
  ["AQA.ACQS is less than 2 entries", ({ AQA }) => AQA.ACQS >= 1],
  ["ASQ goes beyond 64 bits", ({ ASQ, AQA }) => fits(ASQ.value, (AQA.ASQS + 1) * 64)],
  ["ACQ goes beyond 64 bits", ({ ACQ, AQA }) => fits(ACQ.value, (AQA.ACQS + 1) * 16)],
];

type CommandRule = Rule<[command: Command, controller: Controller]>;

/** Rules for every command. */
const EVERY: readonly CommandRule[] = [
  ["FUSE: there are no fused operations", (c) => (c.flags & 3) === 0],
  ["PSDT: there are no scatter gather lists", (c) => c.flags >> 6 === 0],
];

const QUEUE_EXISTS = (kind: "submission" | "completion"): CommandRule => [
  "QID: there is no such queue",
  (c, { queues }) => c.word(10, 0) > 0 && queues[kind].has(c.word(10, 0)),
  Status.QUEUE_ID,
];
const newQueue = (
  kind: "submission" | "completion",
  entrySize: "IOSQES" | "IOCQES",
): CommandRule[] => [
  [
    "QID: it is 0, in use or too large",
    (c, { queues }) => {
      const id = c.word(10, 0);
      return id > 0 && id <= queues.last && !queues[kind].has(id);
    },
    Status.QUEUE_ID,
  ],
  [
    "QSIZE: it is not between 2 and CAP.MQES + 1 entries",
    (c) => c.word(10, 1) >= 1 && c.word(10, 1) <= CAP.MQES,
    Status.QUEUE_SIZE,
  ],
  [
    `CC.${entrySize} is not set`,
    (_, { regs }) => regs.CC[entrySize] === LIMITS[entrySize],
    Status.QUEUE_SIZE,
  ],
  ["PC: CAP.CQR asks for contiguous queues", (c) => (c.dword(11) & 1) === 1],
  ["PRP1: it is not at the start of a page", (c) => isPage(c.prp1), Status.PRP_OFFSET],
  [
    "PRP1: the queue goes beyond 64 bits",
    (c) => fits(c.prp1, (c.word(10, 1) + 1) << LIMITS[entrySize]),
  ],
];

/** Rules for admin commands, by opcode. */
const ADMIN: Readonly<Record<number, readonly CommandRule[]>> = {
  0x00: [QUEUE_EXISTS("submission")],
  0x01: [
    ...newQueue("submission", "IOSQES"),
    [
      "CQID: there can be no such queue",
      (c, { queues }) => c.word(11, 1) > 0 && c.word(11, 1) <= queues.last,
      Status.QUEUE_ID,
    ],
    [
      "CQID: there is no such queue",
      (c, { queues }) => queues.completion.has(c.word(11, 1)),
      Status.COMPLETION_QUEUE,
    ],
  ],
  0x02: [
    ["NSID: there is no such namespace", (c) => isAny(c.namespace, 0), Status.NAMESPACE],
    ["LPOL: it is no multiple of 4", (c) => c.dword(12) % 4 === 0],
    ["NUMD: it is more than MDTS allows", (c) => logSize(c) <= PAGE << LIMITS.MDTS],
  ],
  0x04: [
    QUEUE_EXISTS("completion"),
    [
      "QID: a submission queue completes there",
      (c, { queues }) => ![...queues.submission.values()].some((q) => q.other === c.word(10, 0)),
      Status.QUEUE_DELETION,
    ],
  ],
  0x05: [
    ...newQueue("completion", "IOCQES"),
    ["IV: there is no such vector", (c, { queues }) => c.word(11, 1) <= queues.last, Status.VECTOR],
  ],
  0x06: [
    [
      "NSID: there is no such namespace",
      (c) => {
        if ((c.dword(10) & 0xff) === 2) return c.namespace < ALL_NAMESPACES - 1; // those above it
        const isOfNamespace = [0, 3].includes(c.dword(10) & 0xff);
        return !isOfNamespace || c.namespace === NAMESPACE;
      },
      Status.NAMESPACE,
    ],
  ],
  0x09: [
    ["NSID: there is no such namespace", (c) => isAny(c.namespace, 0), Status.NAMESPACE],
    ["SV: no feature can be saved", (c) => c.dword(10) >>> 31 === 0, Status.NOT_SAVEABLE],
  ],
  0x0a: [
    ["NSID: there is no such namespace", (c) => isAny(c.namespace, 0), Status.NAMESPACE],
    ["SEL: it is reserved", (c) => (c.dword(10) >> 8 & 7) <= 3],
  ],
  0x0c: [
    [
      "there are as many as AERL allows",
      (_, { events }) => events.count <= LIMITS.AERL,
      Status.EVENT_LIMIT,
    ],
  ],
};

const OF_NAMESPACE: CommandRule = [
  "NSID: there is no such namespace",
  (c) => c.namespace === NAMESPACE,
  Status.NAMESPACE,
];
const IN_RANGE: CommandRule = [
  "SLBA, NLB: the disk is not so large",
  (c, { disk }) => disk.has(c.firstBlock, c.blockCount),
  Status.RANGE,
];
const BY_MDTS: CommandRule = [
  "NLB: it is more than MDTS allows",
  (c) => c.blockCount * BLOCK <= PAGE << LIMITS.MDTS,
];

/** Rules for I/O commands, by opcode. */
const IO: Readonly<Record<number, readonly CommandRule[]>> = {
  0x00: [["NSID: there is no such namespace", (c) => isAny(c.namespace), Status.NAMESPACE]],
  0x01: [OF_NAMESPACE, IN_RANGE, BY_MDTS],
  0x02: [OF_NAMESPACE, IN_RANGE, BY_MDTS],
  0x08: [OF_NAMESPACE, IN_RANGE],
  0x09: [OF_NAMESPACE],
};

/** Rules for values of features, by feature, and for what Get Features asks for. */
const FEATURES: Readonly<Record<number, readonly Rule<[value: number, controller: Controller]>[]>> =
  {
    0x02: [["PS: there is no such power state", (value) => (value & 0x1f) <= LIMITS.NPSS]],
    0x04: [
      ["THSEL: it is reserved", (value) => (value >>> 20 & 3) <= 1],
      ["TMPSEL: there is no such sensor", (value) => [0, 15].includes(value >>> 16 & 0xf)],
    ],
    0x05: [["DULBE: NSFEAT does not have it", (value) => (value & 0x1_0000) === 0]],
    0x09: [["IV: there is no such vector", (value, { queues }) => (value & 0xffff) <= queues.last]],
    0x0b: [["OAES has no such event", (value) => value >>> 8 === 0]],
  };

/** Further rules for Set Features. */
const SET_FEATURES: typeof FEATURES = {
  0x07: [
    ["NSQR: 65535 is reserved", (value) => (value & 0xffff) !== 0xffff],
    ["NCQR: 65535 is reserved", (value) => value >>> 16 !== 0xffff],
    [
      "there are I/O queues already",
      (_, { queues }) => queues.completion.size <= 1,
      Status.SEQUENCE,
    ],
  ],
};

/** Holds the registers to CAP; returns what is wrong. */
export function mistakeInRegisters(regs: Regs): string | undefined {
  return ENABLED.find(([, holds]) => !holds(regs))?.[0];
}

/**
 * Holds a command to what was promised, whatever queue it is in.
 *
 * @throws {Failed} with the status of the first rule that does not hold
 */
export function checkCommand(command: Command, controller: Controller, isAdmin: boolean): void {
  check(EVERY, command, controller);
  check((isAdmin ? ADMIN : IO)[command.opcode], command, controller);
}

/** Holds the value of a feature to what was promised. As {@linkcode checkCommand}. */
export function checkFeature(id: number, value: number, controller: Controller): void {
  check(FEATURES[id], value, controller);
}

/** The same of a value that is to be set. */
export function checkNewFeature(id: number, value: number, controller: Controller): void {
  check(FEATURES[id], value, controller);
  check(SET_FEATURES[id], value, controller);
}

function check<S>(
  rules: readonly Rule<[S, Controller]>[] = [],
  subject: S,
  controller: Controller,
): void {
  for (const rule of rules) {
    if (!rule[1](subject, controller)) throw new Failed(rule[2] ?? Status.FIELD, rule[0]);
  }
}

/** Bytes of a log page that are asked for: NUMD is a number of dwords, less one. */
export function logSize(command: Command): number {
  return 4 * (command.word(11, 0) * 0x1_0000 + command.word(10, 1) + 1);
}

function isAny(namespace: number, ...others: number[]): boolean {
  return namespace === NAMESPACE || namespace === ALL_NAMESPACES || others.includes(namespace);
}

function isPage(address: bigint): boolean {
  return address % BigInt(PAGE) === 0n;
}

function fits(address: bigint, size: number): boolean {
  return address + BigInt(size) <= 1n << 64n;
}
