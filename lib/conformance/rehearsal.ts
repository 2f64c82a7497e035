/**
 * Looks whether a device copies as a description says, before the checks that rely on it.
 *
 * @module
 */

import { copy, type CopyEnd } from "./copy.ts";
import { copySessionOf } from "./copy_session.ts";
import { type Copying, type CopySession, DESTINATION, MOST_COPIED, SOURCE } from "./copying.ts";
import { Deviation, NoCopy, NotApplicable } from "./deviation.ts";
import { demoCopy } from "./demo_copy.ts";
import { dmaMap, reset } from "./requests.ts";
import type { Trial } from "./trial.ts";

const FILL = 0xa7;
const SIZE = MOST_COPIED;

/**
 * Has a device copy, once with shared memory and once by message.
 *
 * @param given a person's description; without one the demo device is known
 * @param attempt does something on a new connection
 * @returns undefined if no description is given, and the device is another
 * @throws {NoCopy} if the device copies neither way by the description that is given
 */
export async function rehearse(
  given: CopySession | undefined,
  attempt: <T>(act: (t: Trial) => Promise<T>) => Promise<T>,
): Promise<Copying | undefined> {
  const description = given ?? copySessionOf(await demoCopy());
  const shared = await attempt((t) => tryShared(t, description));
  if (shared.isStranger && given === undefined) return undefined;
  const byMessage = shared.isStranger
    ? { ...shared, asks: false }
    : await attempt((t) => tryByMessage(t, description));
  if (given !== undefined && !shared.hasMoved && !byMessage.hasMoved) {
    throw new NoCopy(
      `Cannot have the device copy by ${given.session.file}: ${wordsOf(shared)}` +
        (byMessage.text === shared.text ? "" : `; with memory by message: ${wordsOf(byMessage)}`),
    );
  }
  return { ...description, asks: byMessage.asks };
}

/** The end of a copy that was tried. */
interface Ended extends CopyEnd {
  /** True unless the device is one that the description is for. */
  readonly isStranger: boolean;
}

/** The same, and what it has moved. */
interface Tried extends Ended {
  /** True if a byte has arrived where it was to. */
  readonly hasMoved: boolean;
}

function wordsOf({ isDone, text }: Tried): string {
  return isDone ? "its steps pass, and no byte of the destination changes" : text;
}

async function tryShared(t: Trial, description: CopySession): Promise<Tried> {
  const [source, destination] = [t.memory(SIZE), t.memory(SIZE)];
  source.writeAt(new Uint8Array(SIZE).fill(FILL), 0n);
  const bytes = new Uint8Array(SIZE);
  const end = await tryCopy(t, description, async () => {
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE), { fds: [source] }));
    await t.accepts(dmaMap(DESTINATION, BigInt(SIZE), { fds: [destination] }));
  });
  destination.readAt(bytes, 0n);
  return { ...end, hasMoved: bytes.some((byte) => byte !== 0) };
}

async function tryByMessage(
  t: Trial,
  description: CopySession,
): Promise<Tried & { asks: boolean }> {
  const bytes = new Uint8Array(SIZE);
  const end = await tryCopy(t, description, async () => {
    t.serve(SOURCE, new Uint8Array(SIZE).fill(FILL));
    t.serve(DESTINATION, bytes);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE)));
    await t.accepts(dmaMap(DESTINATION, BigInt(SIZE)));
  });
  return { ...end, hasMoved: bytes.some((byte) => byte !== 0), asks: t.asked.length > 0 };
}

/**
 * Copies as much as the device can, if it is the right one. What a server refuses, or does wrongly,
 * is the end of the copy.
 */
async function tryCopy(
  t: Trial,
  description: CopySession,
  prepare: () => Promise<void>,
): Promise<Ended> {
  const copied = { source: SOURCE, destination: DESTINATION, length: description.most };
  let isStranger = true;
  try {
    const nothing = { buffers: [], interrupts: [], steps: [] };
    const asked = { ...description, session: { ...description.session, ...nothing } };
    const found = await copy(t, asked, copied, true);
    if (!found.isDone) return { ...found, isStranger };
    isStranger = false;
    await prepare();
    t.atEnd(async () => void await t.ask(reset()));
    return { ...await copy(t, description, copied), isStranger };
  } catch (error) {
    if (!(error instanceof Deviation || error instanceof NotApplicable)) throw error;
    return { isDone: false, text: error.message, isStranger };
  }
}
