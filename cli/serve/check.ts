/**
 * `vfu serve --check`: what is wrong with a device's module, without serving it.
 *
 * @module
 */

import { DefinitionError } from "../../lib/define/mistakes.ts";
import { originOf } from "../../lib/define/origin.ts";
import { reviewRegions } from "../../lib/define/review.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import type { Context, Output } from "../shared/context.ts";
import { exists } from "../shared/exists.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { Progress, spinner } from "../shared/progress.ts";
import type { DeviceArguments } from "./arguments.ts";
import { blamed, ModuleError, type Place, placeOf, placeText } from "./blame.ts";
import { describeDevice } from "./describe.ts";
import { isModule, loadDevice, urlOf } from "./load.ts";
import type { ChosenOption } from "./chosen_option.ts";
import { makeDevice } from "./make.ts";
import { checkTypes, type TypeMistake, type TypesChecked } from "./types.ts";
import { catchUnhandled } from "./unhandled_errors.ts";
import { UsageError } from "./usage.ts";
import { plural } from "../../lib/text/plural.ts";

/** A line of `vfu serve --check --json`: there is one for each device. */
export interface CheckJson {
  /** As it was given. */
  device: string;
  /** True if its types were checked. */
  types_checked: boolean;
  /** Why not; null if they were. */
  types_reason: string | null;
  /** The mistakes; none if the list is empty. */
  mistakes: MistakeJson[];
}

/** A mistake. */
export interface MistakeJson {
  /** The place; null for each part that is not known. */
  file: string | null;
  line: number | null;
  column: number | null;
  /** The mistake. */
  message: string;
  /** Why, or which parts, a line each. */
  details: string[];
}

/** Does a step for a device, so that what holds the thread is known. */
type Step = <T>(work: () => Promise<T>) => Promise<T>;

/**
 * Checks devices: their types, and that they can be made.
 *
 * @param stepOf a device by its number
 * @param screen shows that the work goes on; a log has whole lines
 * @throws {Reported} if something is wrong, after it was reported
 * @throws {UsageError} if a device or an option of the command line is not there
 */
export async function checkAll(
  context: Context,
  wanted: readonly DeviceArguments[],
  isJson: boolean,
  stepOf: (index: number) => Step,
  screen: Output,
): Promise<void> {
  let hasMistakes = false;
  for (const [i, each] of wanted.entries()) {
    const checked = await stepOf(i)(async () => {
      using _progress = progressOf(screen, each);
      return await check(context, each);
    });
    hasMistakes ||= checked.mistakes.length > 0;
    if (isJson) context.out.write(`${jsonText(checked)}\n`);
    else writeText(context, checked);
  }
  if (hasMistakes) throw new Reported(1);
}

/** The first check of types takes long: it reads all of vfu's. */
function progressOf(screen: Output, { device }: DeviceArguments): Progress {
  return new Progress(
    screen,
    (elapsedMs) =>
      `${spinner(elapsedMs)} Checking ${printable(device)} (${Math.floor(elapsedMs / 1000)} s)`,
  );
}

async function check(
  { signal, err }: Context,
  { device, option = [] }: DeviceArguments,
): Promise<CheckJson> {
  const unhandled: unknown[] = [];
  const catching = catchUnhandled((error) => unhandled.push(error));
  const { mistakes, isLoaded } = await checkDefinition(device, option, err);
  const types = await typesOf(device, signal).finally(() => catching[Symbol.asyncDispose]());
  // A module that does not load has no types either: one of the two says so.
  const isKnown = ({ place }: TypeMistake) =>
    !isLoaded &&
    mistakes.some(({ file, line, column }) =>
      file === place?.file && line === place?.line && column === place?.column
    );
  const ofTypes = types.isChecked ? types.mistakes.filter((each) => !isKnown(each)) : [];
  return {
    device,
    types_checked: types.isChecked,
    types_reason: types.isChecked ? null : types.reason,
    mistakes: [
      ...ofTypes.map(({ place, message, details }) => mistake(place, message, details)),
      ...mistakes,
      ...unhandled.flatMap((error) =>
        mistakesOf(blamed("Something that no hook waits for has failed", error))
      ),
    ],
  };
}

/** Checks the types of a module. There are none where loading it says that there is no file. */
async function typesOf(device: string, signal: AbortSignal): Promise<TypesChecked> {
  if (!isModule(device)) return NO_TYPES;
  const url = await urlOf(device);
  return await exists(url) ? await checkTypes(url, signal) : NO_TYPES;
}

/** Loads the module, makes its device and closes that. */
async function checkDefinition(
  device: string,
  option: readonly ChosenOption[],
  err: Output,
): Promise<{ mistakes: MistakeJson[]; isLoaded: boolean }> {
  let isLoaded = false;
  try {
    const loaded = await loadDevice(device, { err });
    isLoaded = true;
    const made = await makeDevice(loaded, option, {});
    try {
      await describeDevice(made);
      const mistakes = reviewRegions(made).map(({ text, region }) =>
        mistake(placeOf(originOf(region)) ?? placeOf(originOf(loaded.source)), text)
      );
      return { isLoaded, mistakes };
    } finally {
      made.close?.();
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return { isLoaded, mistakes: mistakesOf(error) };
  }
}

function mistakesOf(error: unknown): MistakeJson[] {
  const { cause, place } = error instanceof ModuleError ? error : {};
  // Mistakes of several parts, each of which has its place.
  if (cause instanceof DefinitionError && cause.origins.some((each) => each !== undefined)) {
    return cause.mistakes.map((text, i) =>
      mistake(placeOf(cause.origins[i]) ?? place, `${cause.doing}: ${text}`)
    );
  }
  return [mistakeOf(error)];
}

function mistakeOf(error: unknown): MistakeJson {
  if (error instanceof ModuleError) return mistake(error.place, error.reason, error.details);
  return mistake(undefined, thrownText(error));
}

/** A device that comes with vfu was checked with it. */
const NO_TYPES: TypesChecked = { isChecked: true, mistakes: [] };

function writeText({ out, err }: Context, { device, mistakes, types_reason }: CheckJson): void {
  for (const { file, line, column, message, details } of mistakes) {
    const place = file === null ? "" : `${placeText({ file, line: line!, column: column! })}: `;
    out.write(`${printable(place + message)}\n`);
    for (const each of details) out.write(`  ${printable(each)}\n`);
  }
  const name = printable(device);
  const where = types_reason === null ? "" : " in its definition";
  const count = mistakes.length === 0 ? "no mistakes" : plural(mistakes.length, "mistake");
  out.write(`${name}: ${count}${where}\n`);
  if (types_reason !== null) {
    err.write(`${err.style.yellow(`${name}: its types are not checked: ${types_reason}`)}\n`);
  }
}

function mistake(
  place: Place | undefined,
  message: string,
  details: readonly string[] = [],
): MistakeJson {
  const { file = null, line = null, column = null } = place ?? {};
  return { file, line, column, message, details: [...details] };
}
