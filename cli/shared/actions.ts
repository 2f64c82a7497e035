/**
 * Actions that options name, and that are done in the order of the options: registers are written,
 * and waited for.
 *
 * @module
 */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import { assignAll, type Assignment, parseAssignment } from "./assignment.ts";
import { awaitCondition, type Awaited, parseAwaited } from "./awaited.ts";
import { orUsage, type PlaceParser } from "./map.ts";
import { findTarget } from "./target.ts";

/** An action on a register. */
export type RegisterAction =
  | { readonly kind: "write"; readonly assignment: Assignment }
  | { readonly kind: "wait"; readonly awaited: Awaited };

/** An action as it is written, and the function that reads it. */
interface GivenAction<A> {
  readonly flags: string;
  readonly text: string;
  readonly parse: (text: string, place: PlaceParser) => A;
}

/** The actions of a command line. Register maps may stand behind them, so they are read later. */
export class GivenActions<A = RegisterAction> {
  readonly #given: GivenAction<A>[] = [];

  /** An option whose values are actions. */
  option<F extends string>(flags: F, description: string, parse: GivenAction<A>["parse"]) {
    return new Option(flags, description)
      .argParser((text: string) => void this.#given.push({ flags, text, parse }));
  }

  /** Reads all of them, in their order. One that is wrong is wrong usage. */
  read(self: CommandUnknownOpts, place: PlaceParser): A[] {
    return this.#given.map(({ flags, text, parse }) =>
      orUsage(self, `option '${flags}' argument '${text}' is invalid.`, () => parse(text, place))
    );
  }
}

/** `--write` */
export function writeOption(given: Pick<GivenActions, "option">) {
  return given.option(
    "--write <address=value>",
    "then write a register, as vfu write does; repeatable",
    (text, place) => ({ kind: "write", assignment: parseAssignment(text, place) }),
  );
}

/** `--wait` */
export function waitOption(given: Pick<GivenActions, "option">) {
  return given.option(
    "--wait <condition>",
    "then wait for a register, as 'bar0+8==0' (or !=, >=), 5 s or as long as 'bar0+8==0 for 30s' " +
      "says; repeatable, in order with --write",
    (text, place) => ({ kind: "wait", awaited: parseAwaited(text, place) }),
  );
}

/** Finds the registers of all actions, so that none is done if one can't be. */
export async function findAll(device: Device, actions: readonly RegisterAction[]): Promise<void> {
  for (const action of actions) await findTarget(device, placeOf(action));
}

/**
 * Does an action.
 *
 * @throws {Error} if the device refuses it, or the condition is not met in time
 */
export async function act(
  device: Device,
  action: RegisterAction,
  signal: AbortSignal,
): Promise<void> {
  if (action.kind === "write") return await assignAll(device, [action.assignment]);
  const { awaited } = action;
  const target = await findTarget(device, awaited.address);
  await awaitCondition(device, target, awaited, { timeoutMs: awaited.timeoutMs, signal });
}

/**
 * Does all actions, one after another. The signal ends it, also in the middle of a wait, and
 * without an error. Throws as {@linkcode act}.
 */
export async function actAll(
  device: Device,
  actions: readonly RegisterAction[],
  signal: AbortSignal,
): Promise<void> {
  await findAll(device, actions);
  for (const action of actions) {
    if (signal.aborted) return;
    try {
      await act(device, action, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

function placeOf(action: RegisterAction) {
  return action.kind === "write" ? action.assignment.address : action.awaited.address;
}
