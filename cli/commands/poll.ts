/**
 * `vfu poll`: waits for a register to have a value.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { TimeoutError } from "../../lib/base/errors.ts";
import { DEFAULT_TIMEOUT_MS } from "../../lib/base/limits.ts";
import type { Via } from "../../lib/client/region_options.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { mapOption, orUsage, parseArguments, type Place, placeParser } from "../shared/map.ts";
import { unmet } from "../shared/unmet.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { ADDRESS_HELP, DEFAULT_WIDTH, findTarget, viaOption } from "../shared/target.ts";
import {
  checkFits,
  formatMasked,
  formatValue,
  type MaskedValue,
  matches,
  parseMaskedValue,
} from "../shared/value.ts";

/** Options of {@linkcode run}. */
export interface PollOptions extends ConnectionOptions {
  /** The value to wait for. */
  equals: MaskedValue;
  /** Between two looks, in milliseconds. */
  interval: number;
  /** The way to read: by message, or through mapped memory. */
  via?: Via | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("poll")
    .description(
      "Reads a register again and again until it has the value, or the bits of the value that " +
        "the " +
        `mask selects; then shows all of it. Fails if that does not happen in ` +
        `time.\n\n${ADDRESS_HELP}`,
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<address>", "what to read")
    .addOption(
      new Option("--equals <value[:mask]>", "what to wait for, as 0x1 or 0b10:0b11")
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--timeout <duration>", "give up after so long, as 500ms")
        .default(DEFAULT_TIMEOUT_MS, `${DEFAULT_TIMEOUT_MS / 1000}s`)
        .argParser(argument(parseDuration)),
    )
    .addOption(
      new Option("--interval <duration>", "wait so long between two looks")
        .default(1, "1ms")
        .argParser(argument(parseDuration)),
    )
    .addOption(mapOption())
    .addOption(viaOption())
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .action(async (socket, text, options, self) => {
      const parse = await placeParser(context, self, options.map);
      const address = parseArguments(self, "address", [text], parse)[0]!;
      const invalid = `option '--equals <value[:mask]>' argument '${options.equals}' is invalid.`;
      const equals = orUsage(
        self,
        invalid,
        () => (address.named?.parseValue ?? parseMaskedValue)(options.equals),
      );
      try {
        checkFits(equals, address.width ?? DEFAULT_WIDTH);
      } catch (error) {
        self.error(`error: ${(error as Error).message}: ${address.text} has no more`);
      }
      await run(context, socket, address, { ...options, equals });
    });
}

/**
 * Waits until the register at `address` on the device behind `socket` is as wanted, and shows its
 * value.
 */
export async function run(
  context: Context,
  socket: string,
  address: Place,
  options: PollOptions,
): Promise<void> {
  const { equals, timeout, interval, via, verbose } = options;
  // The timeout is for the value. An answer may take as long as it does elsewhere.
  using connection = await connectTo(context, socket, { ...options, timeout: DEFAULT_TIMEOUT_MS });
  const { text, region, offset } = await findTarget(connection.device, address);
  const width = address.width ?? DEFAULT_WIDTH;
  const wanted = formatMasked(equals, width);
  let last = "";
  let lastValue: bigint | undefined;
  using _progress = verbose ? undefined : new Progress(
    context.err,
    (elapsedMs) =>
      `${spinner(elapsedMs)} ${text} is ${last}, waiting for ${wanted} ` +
      `(${Math.floor(elapsedMs / 1000)} s)`,
  );
  const isThere = (value: number | bigint) => {
    last = formatValue(value, width);
    lastValue = BigInt(value);
    return matches(value, equals);
  };
  const value = await region.pollAsync(offset, width, isThere, {
    timeoutMs: timeout,
    intervalMs: interval,
    signal: context.signal,
    ...(via && { via }),
  }).catch(async (error) => {
    if (!(error instanceof TimeoutError) || lastValue === undefined) throw error;
    const { standstillText } = await import("../../lib/client/diagnose/diagnose.ts");
    throw unmet(error.message, await standstillText(connection.device, lastValue, width));
  });
  const lines = [last, ...address.named?.lines(value) ?? []];
  context.out.write(`${lines.join("\n")}\n`);
}
