/**
 * Checks a session against a device: its places are in regions that the device has.
 *
 * The file alone does not say how large a region is. The device is asked before the first step.
 * So a session whose tenth step leaves a region does not stop in the middle of a bring-up.
 *
 * @module
 */

import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { RemoteError } from "../../base/errors.ts";
import type { Problem } from "../../yaml/problem.ts";
import { hex } from "../../text/hex.ts";
import { vectorsName } from "../../wire/irq.ts";
import { constantOf } from "../file/definitions.ts";
import type { Extent, Word } from "../file/word.ts";
import { WORDS } from "../file/words.ts";
import { EvaluationError } from "../expression.ts";
import type {
  BufferDeclaration,
  Expression,
  IrqSelection,
  Place,
  Session,
  Source,
  Step,
} from "../model.ts";
import { findTarget } from "./target.ts";
import { SessionMemory } from "./buffers.ts";
import { plural } from "../../text/plural.ts";

/**
 * Finds everything in a session that is not there: regions, capabilities and vectors of the device,
 * and files for buffers.
 * Also finds offsets outside regions and capabilities, or at no multiple of the width.
 * Places that are computed as the session runs are checked then.
 *
 * @throws {TimeoutError} if the device does not answer
 *
 * @example
 * ```ts
 * import { connect } from "../../client/connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { Server } from "../../server/server.ts";
 * import { parseSession } from "../file/load.ts";
 * import { misfits } from "./preflight.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const { session } = await parseSession("steps: [{ read: bar0+0x1000.l }]", "far.yaml");
 * const [problem] = await misfits(session!, device);
 * console.assert(problem?.line === 1); // BAR0 has 0x1000 bytes
 * ```
 */
export async function misfits(
  session: Session,
  device: Device,
  options: WaitOptions = {},
): Promise<Problem[]> {
  const fit = new Fit(device, options);
  for (const each of sessionsIn(session)) await fit.check(each);
  return fit.problems;
}

/** Sessions beside a device. */
class Fit {
  /** The problems found, in the order of the steps. */
  readonly problems: Problem[] = [];
  readonly #device: Device;
  readonly #options: WaitOptions;
  readonly #memory: SessionMemory;
  readonly #told = new Set<string>();

  constructor(device: Device, options: WaitOptions) {
    this.#device = device;
    this.#options = options;
    this.#memory = new SessionMemory(device.dma);
  }

  /** Checks one session, without those that it calls. */
  async check(session: Session): Promise<void> {
    await this.#device.info(this.#options); // which has the names of regions and interrupts
    for (const buffer of session.buffers) await this.#checkFiles(buffer);
    for (const irq of session.interrupts) {
      await this.#checkIrq(irq, irq.source ?? { file: session.file, line: 1, column: 1 });
    }
    for (const step of stepsIn(session.steps)) {
      const { places }: Word = WORDS[step.word];
      for (const extent of places(step)) await this.#checkExtent(extent, step.source, session);
      if ("irq" in step) await this.#checkIrq(step.irq, step.source);
    }
  }

  #report({ file, line, column }: Source, message: string): void {
    const key = `${file}:${line}:${column}:${message}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.problems.push({ file, line, column, message });
  }

  /** No step is done before buffers are filled: their files have to be there now. */
  async #checkFiles({ source, fill, put }: BufferDeclaration): Promise<void> {
    for (const data of [fill, put]) {
      if (data?.kind !== "file") continue;
      const { isFile } = await Deno.stat(data.path).catch(() => ({ isFile: false }));
      if (!isFile) this.#report(source, `There is no file ${data.path} to put into the buffer`);
    }
  }

  async #checkExtent(
    { place, length }: Extent,
    source: Source,
    session: Session,
  ): Promise<void> {
    if (place.base.kind === "buffer" || place.base.kind === "dma") return;
    const offset = known(place.offset, session);
    if (offset === undefined) return;
    const bytes = length && known(length, session);
    const message = await this.#misfit(place, offset, bytes);
    if (message !== undefined) this.#report(source, message);
  }

  async #checkIrq({ index, text, first, last }: IrqSelection, source: Source): Promise<void> {
    const { numIrqs } = await this.#device.info(this.#options);
    const count = index < numIrqs ? (await this.#device.irqInfo(index, this.#options)).count : 0;
    if (count === 0) {
      return this.#report(source, `The device has no vectors of ${this.#device.irqName(index)}`);
    }
    const end = [first, last].flatMap((each) => each?.kind === "number" ? [each.value] : []).at(-1);
    if (end !== undefined && end >= BigInt(count)) {
      this.#report(
        source,
        `${text} is not there: the device has ${
          vectorsName(this.#device.irqName(index), 0, count)
        }`,
      );
    }
  }

  /** Describes the misfit of a place; undefined if the place fits. */
  async #misfit(
    place: Place,
    value: bigint,
    length: bigint | undefined,
  ): Promise<string | undefined> {
    try {
      const { region, offset, width } = await findTarget(
        { ...place, offset: { kind: "number", value } },
        { device: this.#device, memory: this.#memory, scope: { number: () => 0n } },
        this.#options,
      );
      const { size, index } = region!.info;
      const name = this.#device.regionName(index);
      const end = BigInt(offset) + (length ?? BigInt(width));
      if (size === 0n) return `${place.text} is not there: the device has no ${name}`;
      if (end > size) {
        return `${place.text} ${
          length === undefined ? "is" : `with ${plural(length, "byte")} ends`
        } outside ${name}, which has ${hex(size)} bytes`;
      }
      if (place.register !== undefined && Number(offset) % width !== 0) {
        const at = hex(BigInt(offset));
        return `${place.text} is at ${at}, which is no multiple of its width, ${
          plural(width, "byte")
        }`;
      }
      return undefined;
    } catch (error) {
      if (error instanceof RangeError) return error.message;
      if (error instanceof RemoteError) return `${place.text} is not there: ${error.message}`;
      throw error;
    }
  }
}

/**
 * The value of an expression, if the value is known before the first step.
 * A step that can't be computed fails at its turn.
 */
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
function* stepsIn(steps: readonly Step[]): Generator<Step> {
  for (const step of steps) {
    yield step;
    if (step.word === "repeat") yield* stepsIn(step.steps);
  }
}
