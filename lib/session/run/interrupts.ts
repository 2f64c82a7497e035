/**
 * The interrupts of a session that runs.
 *
 * @module
 */

import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { TimeoutError } from "../../base/errors.ts";
import type { IrqIndex } from "../../client/irq.ts";
import { evaluate, type Scope } from "../expression.ts";
import type { IrqSelection } from "../model.ts";
import { vectorsName } from "../../wire/irq.ts";
import { isSilence, StepFailure } from "./step_result.ts";

/** Vectors of an index that are known. */
interface Vectors {
  readonly irqs: IrqIndex;
  /** All of the index if undefined. */
  readonly range?: { readonly start: number; readonly count: number };
}

/** The actions on vectors. */
export type IrqAction = "enable" | "disable" | "mask" | "unmask" | "trigger";

/** The vectors that the session has enabled, of all indexes. */
export class SessionInterrupts {
  readonly #device: Device;
  readonly #used = new Map<number, IrqIndex>();

  /** The vectors of a device, none of which is enabled yet. */
  constructor(device: Device) {
    this.#device = device;
  }

  /** The indexes of which it has enabled vectors. */
  get used(): readonly IrqIndex[] {
    return [...this.#used.values()];
  }

  /** Enables, disables, masks, unmasks or fires vectors. */
  async act(
    action: IrqAction,
    selection: IrqSelection,
    scope: Scope,
    options: WaitOptions,
  ): Promise<void> {
    const { irqs, range } = await this.#find(selection, scope, options);
    if (action === "enable") {
      this.#used.set(irqs.info.index, irqs);
      await irqs.enable(range, options);
    } else if (action === "disable") await irqs.disable(range, options);
    else {
      const { start, count } = range ?? { start: 0, count: irqs.count };
      await irqs[action](start, count, options);
    }
  }

  /**
   * Waits until each of the vectors came `count` times; of a whole index, until any came so often.
   *
   * @throws {StepFailure} if they do not come in time
   */
  async wait(
    selection: IrqSelection,
    scope: Scope,
    { count, timeoutMs, explain, signal }: {
      count: bigint;
      timeoutMs: number;
      /** True if the device is asked why none came. */
      explain: boolean;
      signal?: AbortSignal;
    },
  ): Promise<string> {
    if (count < 1n) throw new RangeError(`Cannot wait for ${count} interrupts: 1 at least`);
    const { irqs, range } = await this.#find(selection, scope, { ...(signal && { signal }) });
    const deadline = performance.now() + timeoutMs;
    const came: string[] = [];
    for (const vector of range === undefined ? [undefined] : sequence(range)) {
      checkEnabled(irqs, vector);
      let sum = 0n;
      while (sum < count) {
        const interrupt = await irqs.waitAsync(vector, {
          timeoutMs: Math.max(0, deadline - performance.now()),
          ...(signal && { signal }),
        }).catch(async (error) => {
          if (!(error instanceof TimeoutError)) throw error;
          const why = explain ? await this.#silence(irqs, vector) : undefined;
          throw timeout(selection, irqs.name, vector, { count, sum, timeoutMs, why });
        });
        sum += interrupt.count;
        came.push(vectorsName(irqs.name, interrupt.vector) + times(interrupt.count));
      }
    }
    return came.join(", ");
  }

  /** Why vectors are silent, as far as the device tells. */
  async #silence(irqs: IrqIndex, vector: number | undefined): Promise<string | undefined> {
    const { silenceText } = await import("../../client/diagnose/diagnose.ts");
    return await silenceText(this.#device, irqs, vector === undefined ? irqs.enabled : [vector]);
  }

  /**
   * Waits `forMs` for none of the vectors to come.
   *
   * @throws {StepFailure} if one is there already, or comes
   */
  async expectNone(
    selection: IrqSelection,
    scope: Scope,
    { forMs, signal }: { forMs: number; signal?: AbortSignal },
  ): Promise<void> {
    const { irqs, range } = await this.#find(selection, scope, { ...(signal && { signal }) });
    const vectors = range === undefined ? [undefined] : sequence(range);
    for (const vector of vectors) checkEnabled(irqs, vector);
    const end = new AbortController();
    const signals = AbortSignal.any([end.signal, ...(signal ? [signal] : [])]);
    const waits = vectors.map((vector) =>
      irqs.waitAsync(vector, { timeoutMs: forMs, signal: signals })
    );
    try {
      const { vector, count } = await Promise.any(waits);
      throw new StepFailure(
        `no interrupt of ${selection.text} for ${forMs} ms`,
        `${vectorsName(irqs.name, vector)} came${times(count)}`,
      );
    } catch (error) {
      if (!(error instanceof AggregateError)) throw error;
      const other = error.errors.find((each) => !(each instanceof TimeoutError));
      if (other !== undefined) throw other;
    } finally {
      end.abort();
    }
  }

  /**
   * Has the device signal nothing more.
   * Continues when the device refuses that for an index, but not when there is no answer.
   *
   * @returns the errors
   */
  async disableAll(options: WaitOptions): Promise<unknown[]> {
    const errors: unknown[] = [];
    for (const irqs of this.used) {
      if (this.#device.state !== "CONNECTED" || errors.some(isSilence)) break;
      await irqs.disable(undefined, options).catch((error) => errors.push(error));
    }
    this.#used.clear();
    return errors;
  }

  async #find(
    { index, first, last }: IrqSelection,
    scope: Scope,
    options: WaitOptions,
  ): Promise<Vectors> {
    const irqs = await this.#device.irqs(index, options);
    if (first === undefined) return { irqs };
    const start = evaluate(first, scope);
    const end = last === undefined ? start : evaluate(last, scope);
    if (start < 0n || end < start || end >= BigInt(irqs.count)) {
      throw new RangeError(
        irqs.count === 0
          ? `The device has no vectors of ${irqs.name}`
          : `The device has ${vectorsName(irqs.name, 0, irqs.count)}, not ${
            vectorsName(irqs.name, Number(start), Number(end - start) + 1)
          }`,
      );
    }
    return { irqs, range: { start: Number(start), count: Number(end - start) + 1 } };
  }
}

/**
 * Rejects a vector that is not enabled, or an index with no vector enabled: no interrupt can come.
 */
function checkEnabled({ name, enabled }: IrqIndex, vector: number | undefined): void {
  if (vector === undefined ? enabled.length > 0 : enabled.includes(vector)) return;
  const which = vector === undefined ? name : vectorsName(name, vector);
  throw new RangeError(
    `${which} is not enabled; list it under interrupts, or do irq enable ${which} before`,
  );
}

function sequence({ start, count }: { start: number; count: number }): number[] {
  return Array.from({ length: count }, (_, i) => start + i);
}

function times(count: bigint): string {
  return count === 1n ? "" : ` ${count} times`;
}

function timeout(
  { text }: IrqSelection,
  name: string,
  vector: number | undefined,
  { count, sum, timeoutMs, why }: {
    count: bigint;
    sum: bigint;
    timeoutMs: number;
    why: string | undefined;
  },
): StepFailure {
  const which = vector === undefined ? text : vectorsName(name, vector);
  const wanted = count === 1n ? "an interrupt" : `${count} interrupts`;
  const found = sum === 0n ? "none" : String(sum);
  return new StepFailure(
    `${wanted} of ${which} within ${timeoutMs} ms`,
    found,
    { isTimeout: true, why },
  );
}
