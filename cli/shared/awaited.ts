/**
 * Registers that are waited for until they have a value.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import type { Width } from "../../lib/client/info.ts";
import type { Via } from "../../lib/client/region_options.ts";
import { UnmetError } from "../../lib/client/register_plans.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { DEFAULT_WIDTH, parseAddress } from "../../lib/client/address.ts";
import { type ComparisonName, Condition } from "./condition.ts";
import type { Place, PlaceParser } from "./map.ts";
import type { Target } from "./target.ts";
import { unmet } from "./unmet.ts";
import { formatValue, parseMaskedValue } from "./value.ts";

/** A register, and the condition that it is waited for to meet. */
export interface Awaited {
  readonly address: Place;
  readonly width: Width;
  readonly condition: Condition;
  /** The time that it may take, in milliseconds. */
  readonly timeoutMs: number;
}

/** The time that a register may take where the user does not say. In milliseconds. */
export const DEFAULT_WAIT_MS = 5000;
/** The pause between two looks. In milliseconds. */
export const DEFAULT_INTERVAL_MS = 1;

const COMPARISONS: Readonly<Record<string, ComparisonName>> = {
  "==": "equals",
  "!=": "not",
  ">=": "atLeast",
};

/**
 * Reads `PLACE==VALUE`, `PLACE!=VALUE` or `PLACE>=VALUE`. Several values behind `==` stand between
 * commas; ` for DURATION` may follow.
 *
 * @throws {SyntaxError} if it is something else
 * @throws {RangeError} if the register is too narrow for the value
 */
export function parseAwaited(text: string, place: PlaceParser = parseAddress): Awaited {
  const [, at, sign, values, duration] =
    /^\s*([^\s=!>]+)\s*(==|!=|>=)\s*(\S+)(?:\s+for\s+(\S+))?\s*$/.exec(text) ?? [];
  if (at === undefined) {
    throw new SyntaxError(
      `"${text}" is no condition; write ADDRESS==VALUE, !=VALUE or >=VALUE, as bar0+0x54==0, ` +
        "and for 30s behind it to wait longer",
    );
  }
  const address = place(at);
  const width = address.width ?? DEFAULT_WIDTH;
  const texts = sign === "==" ? values!.split(",") : [values!];
  const parse = address.named?.parseValue ?? parseMaskedValue;
  const name = texts.length > 1 ? "oneOf" : COMPARISONS[sign!]!;
  const condition = new Condition(name, texts.map(parse));
  condition.checkFits(width);
  const timeoutMs = duration === undefined ? DEFAULT_WAIT_MS : parseDuration(duration);
  return { address, width, condition, timeoutMs };
}

/** The way in which a register is looked at. */
export interface LookOptions {
  /** The time that it may take, in milliseconds. */
  readonly timeoutMs: number;
  /** The pause between two looks, in milliseconds. */
  readonly intervalMs?: number;
  readonly signal: AbortSignal;
  /** The way to read: by message, or through mapped memory. */
  readonly via?: Via | undefined;
  /** Sees each value. */
  onLook?(value: bigint): void;
}

/**
 * Reads a register again and again until it meets a condition, and returns its value.
 *
 * @throws {Error} if it does not in time: with what holds the device up, as far as it tells
 */
export async function awaitCondition(
  device: Device,
  { region, offset }: Target,
  { address, width, condition }: Omit<Awaited, "timeoutMs">,
  { timeoutMs, intervalMs = DEFAULT_INTERVAL_MS, signal, via, onLook }: LookOptions,
): Promise<number | bigint> {
  let last: bigint | undefined;
  const isThere = (value: number | bigint) => {
    last = BigInt(value);
    onLook?.(last);
    return condition.isMet(value);
  };
  try {
    return await region.pollAsync(offset, width, isThere, {
      timeoutMs,
      intervalMs,
      signal,
      ...(via && { via }),
    });
  } catch (error) {
    if (!(error instanceof UnmetError) || last === undefined) throw error;
    const { standstillText } = await import("../../lib/client/diagnose/diagnose.ts");
    const fields = address.named?.lines(last).map((line) => line.trim()) ?? [];
    const sentence = `${address.text} did not become ${condition.text(width)} within ` +
      `${timeoutMs} ms; its last value was ${[formatValue(last, width), ...fields].join(" ")}`;
    throw unmet(sentence, await standstillText(device, last, width));
  }
}
