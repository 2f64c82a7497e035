/**
 * A session once its file is read and checked: its requirements on a device, and its steps.
 *
 * Numbers that are not known before a step runs are {@linkcode Expression}s.
 * Fields and the names of their values in a file are expressions already.
 * For example, `{ EN: 1, IOSQES: 6 }` of a register is the sum of its parts.
 *
 * @module
 */

import type { AddressBase } from "../client/address.ts";
import type { DmaPermission } from "../client/dma_map.ts";
import type { Register, RegisterField, RegisterMap } from "../registers/map.ts";
import type { Width } from "../client/info.ts";
import type { Position } from "../yaml/problem.ts";

/** The position of an item in a file. */
export interface Source extends Position {
  /** The file, as it was called. */
  readonly file: string;
}

/** Arithmetic on whole numbers of any size. */
export type Expression =
  | { readonly kind: "number"; readonly value: bigint }
  | {
    /**
     * A variable, or a field of the register from which the variable was read.
     * Also a part of a buffer: `iova`, `size` or `end`.
     */
    readonly kind: "name";
    readonly name: string;
    readonly part?: string;
  }
  | { readonly kind: "unary"; readonly operator: UnaryOperator; readonly operand: Expression }
  | {
    readonly kind: "binary";
    readonly operator: BinaryOperator;
    readonly left: Expression;
    readonly right: Expression;
  }
  | {
    /**
     * A number that has to be below a limit, as the value of a field or the index of a register.
     */
    readonly kind: "below";
    readonly operand: Expression;
    readonly limit: bigint;
    /** The name of the number for the message, as "CC.IOSQES" or "the index of SQTDBL". */
    readonly what: string;
  };

/** Operators before a number. `!` is 1 for 0, else 0. */
export type UnaryOperator = "-" | "~" | "!";

/** Operators between two numbers, as in C. Comparisons give 1 or 0. */
export type BinaryOperator =
  | "+"
  | "-"
  | "*"
  | "/"
  | "%"
  | "<<"
  | ">>"
  | "&"
  | "|"
  | "^"
  | "=="
  | "!="
  | "<"
  | "<="
  | ">"
  | ">="
  | "&&"
  | "||";

/** Text with numbers in it that are put in when it is needed. */
export interface Template {
  /** As it was written. */
  readonly text: string;
  /** Its parts, in order. */
  readonly parts: readonly (string | TemplateNumber)[];
}

/**
 * A number in a text: `${cap}` in decimal, `${cap:x}` in hexadecimal, `${cap:b}` in binary.
 * Hexadecimal numbers begin with 0x, binary numbers with 0b.
 */
export interface TemplateNumber {
  /** The expression that is computed. */
  readonly expression: Expression;
  /** The base in which it is shown. */
  readonly base: "dec" | "hex" | "bin";
}

/** A value as it was written, and what it is. */
export interface Value {
  /** As it was written, on one line. */
  readonly text: string;
  /** The number; if it is of some fields of a register, or of one, in their bits. */
  readonly expression: Expression;
  /** The bits that it is about, if not all: those of the fields that were named. */
  readonly mask?: bigint;
}

/** The base from which an address of a step counts. */
export type PlaceBase =
  | AddressBase
  | { readonly kind: "buffer"; readonly name: string }
  /** The IOVA space: the offset is an IOVA. */
  | { readonly kind: "dma" };

/** A place on a device, or in memory that it was given. */
export interface Place {
  /** As it was written. */
  readonly text: string;
  /** The base from which the offset counts. */
  readonly base: PlaceBase;
  /** Bytes from there. */
  readonly offset: Expression;
  /** Bytes of an access, if the place has a width. */
  readonly width?: Width;
  /** The register, if a map names it. */
  readonly register?: Register;
  /**
   * The field, if the place names one. Shown values are counted from the lowest bit of the field.
   * A {@linkcode Value} is counted in the bits of the register.
   */
  readonly field?: RegisterField;
}

/** Data to be put into memory. */
export type Data =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "text"; readonly text: Template }
  /** Its path is relative to the session's file, and resolved already. */
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "numbers"; readonly width: Width; readonly numbers: readonly Expression[] };

/** Memory that the device is given. */
export interface BufferDeclaration {
  /** The position in the file. */
  readonly source: Source;
  /** Its name. */
  readonly name: string;
  /** The first address as the device sees it. */
  readonly iova: Expression;
  /** In bytes. */
  readonly size: Expression;
  /** The access that the device has to the memory. */
  readonly access: DmaPermission;
  /** Shared with the device, or asked for by message. */
  readonly share: "memfd" | "message";
  /** Repeated from its start to its end. */
  readonly fill?: Data;
  /** Put at its start, after `fill`. */
  readonly put?: Data;
}

/** Vectors of an IRQ index. */
export interface IrqSelection {
  /** The position in the file, unless the vectors are the subject of a step. */
  readonly source?: Source;
  /** As it was written, as "msix[0-1]". */
  readonly text: string;
  /** The IRQ index. */
  readonly index: number;
  /** The first vector; undefined: all of the index. */
  readonly first?: Expression;
  /** The last vector; undefined: the same as the first. */
  readonly last?: Expression;
}

/** A condition on a value or on bytes. All its parts have to hold. */
export interface Condition {
  /** As it was written, as "equals 1, mask 0xf". */
  readonly text: string;
  /** The expected value. */
  readonly equals?: Value;
  /** The value that is not accepted. */
  readonly not?: Value;
  /** The bits of the value that `equals` and `not` are about. */
  readonly mask?: Expression;
  /** The lowest accepted value. */
  readonly atLeast?: Value;
  /** The highest accepted value. */
  readonly atMost?: Value;
  /** The accepted values. */
  readonly oneOf?: readonly Value[];
  /** The bytes at the place, from it on. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** The bytes at the place, in UTF-8. */
  readonly textAt?: Template;
  /** Another place that has the same bytes, and how many are compared. */
  readonly sameAs?: { readonly place: Place; readonly length: Expression };
}

/** The parts that every step may have. */
export interface StepCommon {
  /** The position in the file. */
  readonly source: Source;
  /** The user's name for the step. */
  readonly name?: string;
  /** The action as it was written, on one line: "write nvme.CC 0x460001". */
  readonly text: string;
  /** The time that it may take, in milliseconds. */
  readonly timeoutMs?: number;
  /** The failures that it has to end with: names of errnos as "EINVAL", or "timeout". */
  readonly expectError?: readonly string[];
  /** The failures with which it has passed, as `expectError`. */
  readonly allowError?: readonly string[];
  /** The session goes on if it fails; it has failed all the same. */
  readonly continueOnFailure?: boolean;
  /** The condition of the step: the step is skipped if this is 0. */
  readonly when?: Expression;
  /** The variables that it gives values, if there are any; without those of steps in it. */
  readonly sets?: readonly string[];
}

/** Reads a register, or bytes, and shows them. */
export interface ReadStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "read";
  /** The place of the access. */
  readonly place: Place;
  /** The number of values, read one by one; of bytes, read together, if the place has no width. */
  readonly count?: Expression;
  /** The variable that gets the value, which then knows the register. */
  readonly into?: string;
}

/** Writes registers, one after the other. */
export interface WriteStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "write";
  /** The places with their values, in order. */
  readonly assignments: readonly Assignment[];
  /** Reads back what was written. */
  readonly verify?: boolean;
}

/**
 * A place and the value for it.
 * If the value has a mask the other bits stay: the register is read first.
 */
export interface Assignment {
  /** The place of the access. */
  readonly place: Place;
  /** The value. */
  readonly value: Value;
}

/** Changes some bits of a register. */
export interface ModifyStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "modify";
  /** The place of the access. */
  readonly place: Place;
  /** `mask` of it is there, unless `mask` of the step is. */
  readonly value: Value;
  /** The bits that are changed. */
  readonly mask?: Expression;
}

/** Reads a register until a condition holds. */
export interface PollStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "poll";
  /** The place of the access. */
  readonly place: Place;
  /** The condition that has to hold. */
  readonly condition: Condition;
  /** Between two reads, in milliseconds; default 1. */
  readonly everyMs?: number;
}

/** Fails unless a condition holds. */
export interface ExpectStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "expect";
  /** A register, memory, or a number that is computed. */
  readonly subject: Place | Expression;
  /** The subject as it was written. */
  readonly subjectText: string;
  /** The condition that has to hold. */
  readonly condition: Condition;
}

/** Repeats data over memory. */
export interface DmaFillStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma fill";
  /** The place of the access. */
  readonly place: Place;
  /** The data that is put there. */
  readonly data: Data;
  /** In bytes; to the end of the buffer if it is left out. */
  readonly length?: Expression;
}

/** Puts data into memory, once. */
export interface DmaPutStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma put";
  /** The place of the access. */
  readonly place: Place;
  /** The data that is put there. */
  readonly data: Data;
}

/** Reads a file into memory. */
export interface DmaLoadStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma load";
  /** The place of the access. */
  readonly place: Place;
  /** Resolved already. */
  readonly path: string;
}

/** Writes memory into a file; without a file it is shown. */
export interface DmaDumpStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma dump";
  /** The place of the access. */
  readonly place: Place;
  /** In bytes; to the end of the buffer if it is left out. */
  readonly length?: Expression;
  /** Resolved already. */
  readonly path?: string;
}

/** Gives memory to the device. */
export interface DmaMapStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma map";
  /** The memory to map. */
  readonly buffer: BufferDeclaration;
}

/** Takes memory back. */
export interface DmaUnmapStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "dma unmap";
  /** The name of the memory to take back. */
  readonly buffer: string;
}

/** Has the device signal vectors, or no more, or masks, unmasks or fires them. */
export interface IrqStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "irq enable" | "irq disable" | "irq mask" | "irq unmask" | "irq trigger";
  /** The selected vectors. */
  readonly irq: IrqSelection;
}

/** Waits for interrupts. */
export interface IrqWaitStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "irq wait";
  /** The selected vectors. */
  readonly irq: IrqSelection;
  /** The number of interrupts; default 1. */
  readonly count?: Expression;
}

/** Fails if an interrupt is there, or comes. */
export interface IrqExpectNoneStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "irq expect none";
  /** The selected vectors. */
  readonly irq: IrqSelection;
  /** The time in which none may come, in milliseconds; default 100. */
  readonly forMs?: number;
}

/** Resets the device; or gives its BARs addresses and switches it on, as firmware does. */
export interface DeviceStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "reset" | "pci enable";
}

/** Does nothing for a while. */
export interface SleepStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "sleep";
  /** The duration, in milliseconds. */
  readonly durationMs: number;
}

/** Shows a text. */
export interface LogStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "log";
  /** The text. */
  readonly message: Template;
}

/** Gives variables new values. */
export interface SetStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "set";
  /** Names of variables and their values, in order. */
  readonly assignments: readonly { readonly name: string; readonly value: Expression }[];
}

/** Does steps several times. */
export interface RepeatStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "repeat";
  /** The number of times. */
  readonly count: Expression;
  /** The variable that counts, from 0. */
  readonly as?: string;
  /** The steps, in order. */
  readonly steps: readonly Step[];
}

/** Does the steps of another file. */
export interface CallStep extends StepCommon {
  /** The word that it begins with. */
  readonly word: "call";
  /** The other file. */
  readonly session: Session;
  /** Variables of the other file, in place of its own values. */
  readonly arguments: readonly { readonly name: string; readonly value: Expression }[];
  /** Variables here that get the values of variables there, at the end. */
  readonly into: readonly { readonly name: string; readonly from: string }[];
}

/** One step. */
export type Step =
  | ReadStep
  | WriteStep
  | ModifyStep
  | PollStep
  | ExpectStep
  | DmaFillStep
  | DmaPutStep
  | DmaLoadStep
  | DmaDumpStep
  | DmaMapStep
  | DmaUnmapStep
  | IrqStep
  | IrqWaitStep
  | IrqExpectNoneStep
  | DeviceStep
  | SleepStep
  | LogStep
  | SetStep
  | RepeatStep
  | CallStep;

/** The word that a step begins with. */
export type StepWord = Step["word"];

/** The requirements on a device. */
export interface Requirements {
  /** The position in the file. */
  readonly source?: Source;
  /** The PCI vendor id. */
  readonly vendor?: number;
  /** The PCI device id. */
  readonly device?: number;
  /** The PCI subsystem vendor id. */
  readonly subsystemVendor?: number;
  /** The PCI subsystem id. */
  readonly subsystem?: number;
  /** Hexadecimal digits of the class code, from its first: "01", "0108" or "010802". */
  readonly classCode?: string;
  /** Regions. */
  readonly regions: readonly {
    /** The region index. */
    readonly index: number;
    /** Bytes that it has at least. */
    readonly size: bigint;
    /** `RegionFlags` that it has at least. */
    readonly flags: number;
  }[];
  /** IRQ indexes. */
  readonly irqs: readonly {
    /** The IRQ index. */
    readonly index: number;
    /** Vectors that it has at least. */
    readonly count: number;
  }[];
}

/** A session, read and checked. */
export interface Session {
  /** Its file, as it was called. */
  readonly file: string;
  /** The title of the session. */
  readonly title?: string;
  /** The requirements on the device. */
  readonly requires: Requirements;
  /** The maps of registers that have names in the session. */
  readonly maps: readonly RegisterMap[];
  /** Their first values, in the order of the file. A later one may use an earlier one. */
  readonly variables: readonly { readonly name: string; readonly value: Expression }[];
  /** Variables that some `call` gives another value. */
  readonly parameters?: ReadonlySet<string>;
  /** Given to the device before the first step. */
  readonly buffers: readonly BufferDeclaration[];
  /** Enabled before the first step. */
  readonly interrupts: readonly IrqSelection[];
  /** The steps, in order. */
  readonly steps: readonly Step[];
}
