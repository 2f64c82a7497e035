/**
 * Whether a session fits a device: its places are in regions that the device has.
 *
 * The file alone does not say how large a region is. This is asked before the first step, so that a session whose tenth step leaves a region
 * does not stop in the middle of a bring-up.
 *
 * @module
 */

import type { Device, WaitOptions } from "../device.ts";
import { RemoteError } from "../errors.ts";
import type { Problem } from "../yaml/problem.ts";
import { hex } from "../wire/hex.ts";
import { irqName } from "../wire/irq.ts";
import { constantOf } from "./file/definitions.ts";
import { EvaluationError } from "./expression.ts";
import type { Expression, IrqSelection, Place, Session, Source, Step } from "./model.ts";
import { findTarget } from "./target.ts";
import { SessionMemory } from "./memory.ts";
import { regionName } from "../wire/region.ts";

/**
 * Everything in a session that this device does not have: regions and capabilities, offsets outside them or at no multiple of the width,
 * vectors. Places that are computed as the session runs are checked then.
 *
 * @throws {TimeoutError} if the device does not answer
 */
export async function misfits(
  session: Session,
  device: Device,
  options: WaitOptions = {},
): Promise<Problem[]> {
  const problems: Problem[] = [];
  const told = new Set<string>();
  const report = (source: Source, message: string) => {
    const key = `${source.file}:${source.line}:${source.column}:${message}`;
    if (told.has(key)) return;
    told.add(key);
    const { file, line, column } = source;
    problems.push({ file, line, column, message });
  };
  const look = async (each: Session): Promise<void> => {
    for (const irq of each.interrupts) {
      await checkIrq(irq, irq.source ?? { file: each.file, line: 1, column: 1 });
    }
    for (const step of stepsIn(each.steps)) {
      for (const place of placesOf(step)) await checkPlace(place, step.source, each);
      if ("irq" in step) await checkIrq(step.irq, step.source);
    }
  };
  const checkPlace = async (place: Place, source: Source, within: Session) => {
    if (place.base.kind === "buffer" || place.base.kind === "dma") return;
    const offset = known(place.offset, within);
    if (offset === undefined) return;
    const message = await misfit(
      { ...place, offset: { kind: "number", value: offset } },
      device,
      options,
    );
    if (message !== undefined) report(source, message);
  };
  const checkIrq = async ({ index, text, first, last }: IrqSelection, source: Source) => {
    const { numIrqs } = await device.info(options);
    const count = index < numIrqs ? (await device.irqInfo(index, options)).count : 0;
    if (count === 0) return report(source, `The device has no vectors of ${irqName(index)}`);
    const end = [first, last].flatMap((each) => each?.kind === "number" ? [each.value] : []).at(-1);
    if (end !== undefined && end >= BigInt(count)) {
      report(source, `${text} is not there: the device has the vectors 0 to ${count - 1}`);
    }
  };
  for (const each of sessionsIn(session)) await look(each);
  return problems;
}

/** What is wrong with a place of which all is known; undefined if nothing is. */
async function misfit(
  place: Place,
  device: Device,
  options: WaitOptions,
): Promise<string | undefined> {
  try {
    const memory = new SessionMemory(device.dma);
    const scope = { number: () => 0n };
    const { region, offset, width } = await findTarget(place, { device, memory, scope }, options);
    const { size, index } = region!.info;
    const name = regionName(index);
    if (size === 0n) return `${place.text} is not there: the device has no ${name}`;
    if (BigInt(offset) + BigInt(width) > size) {
      return `${place.text} is outside ${name}, which has ${hex(size)} bytes`;
    }
    if (place.register !== undefined && Number(offset) % width !== 0) {
      return `${place.text} is at ${
        hex(BigInt(offset))
      }, which is no multiple of its width, ${width} bytes`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof RangeError) return error.message;
    if (error instanceof RemoteError) return `${place.text} is not there: ${error.message}`;
    throw error;
  }
}

/** The value of an expression if it is known before the first step. A step that can't be computed fails when it is its turn. */
function known(expression: Expression, session: Session): bigint | undefined {
  try {
    return constantOf(expression, session);
  } catch (error) {
    if (error instanceof EvaluationError) return undefined;
    throw error;
  }
}

/** A session and those that it calls, each once. */
export function sessionsIn(session: Session): ReadonlySet<Session> {
  const all = new Set<Session>();
  const visit = (each: Session) => {
    if (all.has(each)) return;
    all.add(each);
    for (const step of stepsIn(each.steps)) if (step.word === "call") visit(step.session);
  };
  visit(session);
  return all;
}

/** Steps, and those that they repeat. */
export function* stepsIn(steps: readonly Step[]): Generator<Step> {
  for (const step of steps) {
    yield step;
    if (step.word === "repeat") yield* stepsIn(step.steps);
  }
}

function placesOf(step: Step): Place[] {
  switch (step.word) {
    case "write":
      return step.assignments.map(({ place }) => place);
    case "read":
    case "modify":
    case "poll":
      return [step.place];
    case "expect":
      return "kind" in step.subject ? [] : [step.subject];
    default:
      return [];
  }
}
