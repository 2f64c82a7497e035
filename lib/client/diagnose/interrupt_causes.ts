/**
 * Causes that keep interrupts from the client.
 *
 * @module
 */

import {
  COMMAND,
  HEADER,
  MSI_CONTROL,
  MSIX_CONTROL,
  MSIX_ENTRY,
  MSIX_SIZE_MASK,
  STATUS,
} from "../../pci/registers.ts";
import { hex } from "../../text/hex.ts";
import { plural } from "../../text/plural.ts";
import { IrqFlags, PciIrq, vectorsName } from "../../wire/irq.ts";
import { PciRegion, placeText } from "../../wire/region.ts";
import type { Cause, Clue } from "./cause.ts";
import type { Examination } from "./examination.ts";

const MSI_MASKABLE = 0x100;

/** The causes; those in this client first. */
export const INTERRUPT_CAUSES: readonly Cause[] = [
  {
    id: "masked-by-client",
    title: "this client has masked the vector",
    subjects: ["intx", "msi", "msix"],
    find(look) {
      const { irqs } = look;
      if (irqs === undefined) return none();
      const { masked } = irqs;
      const ours = chosen(look).filter((vector) => masked.includes(vector));
      if (ours.length === 0) return none();
      return one(`${vectorsText(irqs.name, ours)} masked by this client`, "unmask");
    },
  },
  {
    id: "masks-itself",
    title: "the interrupt masks itself when it fires, and has fired",
    subjects: ["intx", "msi", "msix"],
    find(look) {
      const { irqs } = look;
      if (irqs === undefined || !chosen(look).some((each) => irqs.isSelfMasked(each))) {
        return none();
      }
      return one(`${irqs.name} masks itself when it fires, and has fired`, "unmask it");
    },
  },
  {
    id: "intx-disabled",
    title: "INTx is disabled in COMMAND",
    subjects: ["intx"],
    async find(look) {
      const command = await look.command();
      if (command === undefined || (command & COMMAND.INTX_DISABLE) === 0) return [];
      if (!await usesPin(look)) return [];
      return await one(
        `INTx is disabled in COMMAND (${hex(command, 4)})`,
        "clear its bit 10",
        `write SOCKET COMMAND=0:${hex(COMMAND.INTX_DISABLE)}`,
      );
    },
  },
  {
    id: "no-pin",
    title: "the device has no interrupt pin",
    subjects: ["intx"],
    async find(look) {
      if (await look.command() === undefined || !await usesPin(look)) return [];
      if (await look.config(HEADER.INTERRUPT_PIN, 1) !== 0) return [];
      return await one(
        "the device has no interrupt pin (INTERRUPT_PIN is 0)",
        undefined,
        "read SOCKET INTERRUPT_PIN",
      );
    },
  },
  {
    id: "intx-replaced",
    title: "MSI or MSI-X is on, and takes the place of INTx",
    subjects: ["intx"],
    async find(look) {
      if (look.irqs === undefined) return [];
      const on = [["MSI-X", await msix(look)], ["MSI", await msi(look)]] as const;
      return on.filter(([, state]) => state?.isOn)
        .map(([name]) => ({ evidence: `${name} is on, and takes the place of INTx` }));
    },
  },
  {
    id: "intx-asserted",
    title: "the device asserts INTx, and the interrupt did not come",
    subjects: ["intx"],
    async find(look) {
      if (await look.command() === undefined || !await usesPin(look)) return [];
      const status = await look.config(HEADER.STATUS, 2);
      if (status === undefined || (status & STATUS.INTERRUPT) === 0) return [];
      return await one(
        `the device asserts INTx (bit 3 of STATUS, ${hex(status, 4)})`,
        undefined,
        "read SOCKET STATUS",
      );
    },
  },
  {
    id: "msix-off",
    title: "MSI-X is off",
    subjects: ["msix"],
    async find(look) {
      const state = await msix(look);
      if (state === undefined || state.isOn) return [];
      if (look.irqs === undefined && (await msi(look))?.isOn) return [];
      return await one(
        `MSI-X is off (CAP_MSIX+2.w is ${hex(state.control, 4)})`,
        "set its bit 15",
        setBit("CAP_MSIX", MSIX_CONTROL.ENABLE),
      );
    },
  },
  {
    id: "msix-masked",
    title: "all vectors of MSI-X are masked",
    subjects: ["msix"],
    async find(look) {
      const state = await msix(look);
      if (state === undefined || (state.control & MSIX_CONTROL.FUNCTION_MASK) === 0) return [];
      const { control } = state;
      return await one(
        `all of MSI-X is masked (CAP_MSIX+2.w is ${hex(control, 4)})`,
        "clear its bit 14",
        `write SOCKET CAP_MSIX+2.w=0:${hex(MSIX_CONTROL.FUNCTION_MASK)}`,
      );
    },
  },
  {
    id: "msix-vector-masked",
    title: "a vector is masked in the MSI-X table",
    subjects: ["msix"],
    async find(look) {
      const state = await msix(look);
      return state === undefined ? [] : await tableClues(look, state);
    },
  },
  {
    id: "msix-pending",
    title: "a vector of MSI-X has fired and is held back",
    subjects: ["msix"],
    async find(look) {
      const state = await msix(look);
      return state === undefined ? [] : await pbaClues(look, state);
    },
  },
  {
    id: "msix-outside",
    title: "the table or the pending bits of MSI-X are outside their BAR",
    subjects: ["msix"],
    async find(look) {
      const state = await msix(look);
      if (state === undefined) return [];
      const { at, count } = state;
      const table = await placeOf(look, at + 4);
      const pba = await placeOf(look, at + 8);
      return [
        ...await outside(look, "table", 4, table, count * MSIX_ENTRY.SIZE),
        ...await outside(look, "pending bits", 8, pba, Math.ceil(count / 64) * 8),
      ];
    },
  },
  {
    id: "msi-off",
    title: "MSI is off",
    subjects: ["msi"],
    async find(look) {
      const state = await msi(look);
      if (state === undefined || state.isOn) return [];
      if (look.irqs === undefined && (await msix(look))?.isOn) return [];
      return await one(
        `MSI is off (CAP_MSI+2.w is ${hex(state.control, 4)})`,
        "set its bit 0",
        setBit("CAP_MSI", MSI_CONTROL.ENABLE),
      );
    },
  },
  {
    id: "msi-vector-masked",
    title: "a vector of MSI is masked",
    subjects: ["msi"],
    async find(look) {
      const state = await msi(look);
      if (state === undefined || state.maskAt === undefined) return [];
      const mask = await look.config(state.maskAt, 4) ?? 0;
      const masked = look.vectors(state.count).filter(isSetIn(mask));
      if (masked.length === 0) return [];
      const place = `config+${hex(state.maskAt)}.l`;
      const bits = masked.reduce((all, vector) => all | 1 << vector, 0) >>> 0;
      return await one(
        `${vectorsText("msi", masked)} masked (${place} is ${hex(mask, 8)})`,
        `clear ${masked.length === 1 ? "its bit" : "their bits"}`,
        `write SOCKET ${place}=0:${hex(bits)}`,
      );
    },
  },
  {
    id: "msi-pending",
    title: "a vector of MSI has fired and is held back",
    subjects: ["msi"],
    async find(look) {
      const state = await msi(look);
      if (state === undefined || state.maskAt === undefined) return [];
      const pending = await look.config(state.maskAt + 4, 4) ?? 0;
      const place = `config+${hex(state.maskAt + 4)}.l`;
      return await pendingClue("msi", look.vectors(state.count).filter(isSetIn(pending)), place);
    },
  },
  countCause("msix", PciIrq.MSIX, "CAP_MSIX", msix),
  countCause("msi", PciIrq.MSI, "CAP_MSI", msi),
  {
    id: "no-eventfd",
    title: "an IRQ index can't be signalled by eventfd",
    subjects: ["intx", "msi", "msix"],
    async find(look) {
      const indexes = look.irqs === undefined
        ? [PciIrq.INTX, PciIrq.MSI, PciIrq.MSIX]
        : [look.irqs.info.index];
      const clues: Clue[] = [];
      for (const index of indexes) {
        const info = await look.irqInfo(index);
        if (info === undefined || info.count === 0) continue;
        if ((info.flags & IrqFlags.EVENTFD) !== 0) continue;
        clues.push({
          evidence: `${look.device.irqName(index)} has ${plural(info.count, "vector")} ` +
            `and not the flag EVENTFD (flags ${hex(info.flags)})`,
          remedy: "the server's reply to IRQ_INFO has to have it",
          command: "probe SOCKET",
        });
      }
      return clues;
    },
  },
];

function none(): Promise<Clue[]> {
  return Promise.resolve([]);
}

function one(evidence: string, remedy?: string, command?: string): Promise<Clue[]> {
  return Promise.resolve([{
    evidence,
    ...(remedy !== undefined && { remedy }),
    ...(command !== undefined && { command }),
  }]);
}

/** The line that sets a bit in the control register of a capability. */
function setBit(capability: string, bit: number): string {
  return `write SOCKET ${capability}+2.w=${hex(bit)}:${hex(bit)}`;
}

/** The vectors that the client waits for, all of them. */
function chosen({ options: { vectors, irqs } }: Examination): readonly number[] {
  return vectors ?? irqs?.enabled ?? [];
}

/** Reports whether the interrupt pin is what the client waits for, or all that there is. */
async function usesPin(look: Examination): Promise<boolean> {
  if (look.irqs !== undefined) return true;
  if ((await msix(look))?.isOn || (await msi(look))?.isOn) return false;
  return ((await look.irqInfo(PciIrq.INTX))?.count ?? 0) > 0;
}

/** MSI-X or MSI, as the device has it. */
interface MessageState {
  readonly at: number;
  readonly control: number;
  readonly isOn: boolean;
  readonly count: number;
  /** The offset of the mask bits of MSI; the pending bits follow. */
  readonly maskAt?: number;
}

async function msix(look: Examination): Promise<MessageState | undefined> {
  const found = await look.control("CAP_MSIX");
  if (found === undefined) return undefined;
  const { control } = found;
  return {
    ...found,
    isOn: (control & MSIX_CONTROL.ENABLE) !== 0,
    count: (control & MSIX_SIZE_MASK) + 1,
  };
}

async function msi(look: Examination): Promise<MessageState | undefined> {
  const found = await look.control("CAP_MSI");
  if (found === undefined) return undefined;
  const { at, control } = found;
  return {
    ...found,
    isOn: (control & MSI_CONTROL.ENABLE) !== 0,
    count: 1 << (control >> 1 & 7),
    ...((control & MSI_MASKABLE) !== 0 && {
      maskAt: at + ((control & MSI_CONTROL.ADDRESS_64) !== 0 ? 0x10 : 0x0c),
    }),
  };
}

function isSetIn(bits: number): (vector: number) => boolean {
  return (vector) => vector < 32 && (bits >>> vector & 1) !== 0;
}

function countCause(
  name: "msix" | "msi",
  index: number,
  capability: string,
  stateOf: (look: Examination) => Promise<MessageState | undefined>,
): Cause {
  return {
    id: `${name}-count`,
    title: `${capability} and the IRQ index ${name} differ in their vectors`,
    subjects: [name],
    async find(look) {
      const state = await stateOf(look);
      if (state === undefined) return [];
      const claim = `${capability} has ${plural(state.count, "vector")} (${capability}+2.w is ${
        hex(state.control, 4)
      })`;
      const info = await look.irqInfo(index);
      if (info === undefined) {
        const refusal = await look.irqRefusal(index);
        if (refusal === undefined) return [];
        return await one(
          `${claim}, and the server refuses to tell of the IRQ index ${name} with ` +
            (refusal.code || "no errno"),
          "the server has to answer IRQ_INFO of it",
          "probe SOCKET",
        );
      }
      if (info.count === state.count) return [];
      const both = Math.min(state.count, info.count);
      if (look.irqs !== undefined && chosen(look).every((vector) => vector < both)) return [];
      return await one(
        `${claim}, and the IRQ index ${name} has ${info.count}`,
        "the server has to say the same in both",
        "probe SOCKET",
      );
    },
  };
}

/** A place in a BAR. */
interface Place {
  readonly register: number;
  readonly bar: number;
  readonly offset: number;
}

/**
 * The place of the table or of the pending bits: the BAR in the low 3 bits of a register, else the
 * offset.
 */
async function placeOf(look: Examination, at: number): Promise<Place | undefined> {
  const register = await look.config(at, 4);
  if (register === undefined) return undefined;
  return { register, bar: register & 7, offset: (register & ~7) >>> 0 };
}

async function outside(
  look: Examination,
  what: string,
  at: number,
  place: Place | undefined,
  length: number,
): Promise<Clue[]> {
  if (place === undefined) return [];
  const { register, bar, offset } = place;
  const size = bar > PciRegion.BAR5 ? 0n : (await look.regionInfo(bar))?.size;
  if (size === undefined || BigInt(offset + length) <= size) return [];
  const where = bar > PciRegion.BAR5
    ? `in BAR ${bar}, which no device has`
    : `at ${hex(offset)} to ${hex(offset + length - 1)} of bar${bar}, which has ${size} bytes`;
  return await one(
    `the MSI-X ${what} ${what.endsWith("s") ? "are" : "is"} ${where} ` +
      `(CAP_MSIX+${at}.l is ${hex(register, 8)})`,
    "the capability or the size of the region is wrong",
    `read SOCKET CAP_MSIX+${at}.l`,
  );
}

async function tableClues(look: Examination, { at, count }: MessageState): Promise<Clue[]> {
  const place = await placeOf(look, at + 4);
  if (place === undefined) return [];
  const { bar, offset } = place;
  const controlAt = (vector: number) => offset + vector * MSIX_ENTRY.SIZE + MSIX_ENTRY.CONTROL;
  const masked: number[] = [];
  for (const vector of look.vectors(count)) {
    const control = await look.read(bar, controlAt(vector), 4);
    if (control !== undefined && (control & 1) !== 0) masked.push(vector);
  }
  const [first] = masked;
  if (first === undefined) return [];
  const where = (vector: number) => placeText(bar, controlAt(vector));
  return await one(
    `${vectorsText("msix", masked)} masked in the MSI-X table (${where(first)})`,
    "clear bit 0",
    `write SOCKET ${masked.map((vector) => `${where(vector)}.l=0:1`).join(" ")}`,
  );
}

async function pbaClues(look: Examination, { at, count }: MessageState): Promise<Clue[]> {
  const place = await placeOf(look, at + 8);
  if (place === undefined) return [];
  const { bar, offset } = place;
  const words = new Map<number, number | undefined>();
  const pending: number[] = [];
  for (const vector of look.vectors(count)) {
    const wordAt = offset + (vector >> 5) * 4;
    if (!words.has(wordAt)) words.set(wordAt, await look.read(bar, wordAt, 4));
    if (((words.get(wordAt) ?? 0) >>> (vector & 31) & 1) !== 0) pending.push(vector);
  }
  const [first] = pending;
  const wordAt = offset + ((first ?? 0) >> 5) * 4;
  return await pendingClue("msix", pending, `${placeText(bar, wordAt)}.l`);
}

function pendingClue(name: string, pending: readonly number[], place: string): Promise<Clue[]> {
  if (pending.length === 0) return none();
  return one(
    `${vectorsText(name, pending)} pending`,
    "the device has fired, and holds it back",
    `read SOCKET ${place}`,
  );
}

/** "msix[3] is", "msix[0-3] are", "msix[0] and msix[2-3] are". */
function vectorsText(name: string, vectors: readonly number[]): string {
  const ranges: { start: number; count: number }[] = [];
  for (const vector of vectors) {
    const last = ranges.at(-1);
    if (last !== undefined && vector === last.start + last.count) last.count++;
    else ranges.push({ start: vector, count: 1 });
  }
  const names = ranges.map(({ start, count }) => vectorsName(name, start, count));
  const list = names.length === 1
    ? names[0]!
    : `${names.slice(0, -1).join(", ")} and ${names.at(-1)!}`;
  return `${list} ${vectors.length === 1 ? "is" : "are"}`;
}
