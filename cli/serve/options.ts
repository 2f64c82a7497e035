/**
 * The options of a device, as `vfu serve DEVICE --options` lists them.
 *
 * @module
 */

import type { DeviceOptions } from "../../lib/define/option.ts";
import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { writtenSize } from "../shared/size.ts";
import { tableLines } from "../shared/table.ts";
import { isDefinition, type Loaded } from "./load.ts";

/** An option as `--options --json` writes it. */
export interface OptionJson {
  /** As in `--option name=value`. */
  name: string;
  /** The kind of its values: integer, size, boolean, text, choice. */
  kind: string;
  /** Its purpose. */
  description: string;
  /** The form of its values. */
  form: string;
  /** The default value; null if there is none. */
  default: unknown;
  /** The words that it can be, of a choice. */
  choices?: readonly string[];
}

/** The options, as lines for people. */
export function optionLines(loaded: Loaded, { columns, style }: Output): string[] {
  const { name, source } = loaded;
  const title = isDefinition(source) && source.title !== undefined ? `: ${source.title}` : "";
  const rows = optionsJson(loaded).map((option) => [
    printable(option.name),
    printable(defaultText(option)),
    printable(`${option.description}; ${option.form}`),
  ]);
  if (rows.length === 0) {
    const isFunction = typeof source === "function";
    return [
      printable(name + title),
      isFunction ? "  is made by a function, which is given all options" : "  has no options",
    ];
  }
  const heading = ["option", "default", "what it is"].map((text) => ({ text, paint: style.dim }));
  return [printable(name + title), ...tableLines([heading, ...rows], { columns, indent: 2 })];
}

function defaultText({ kind, default: value }: OptionJson): string {
  if (value === null) return "-";
  return kind === "size" ? writtenSize(BigInt(value as number)) : String(value);
}

/** The options, for programs. */
export function optionsJson({ source }: Loaded): OptionJson[] {
  const options: DeviceOptions = isDefinition(source) ? source.options : {};
  return Object.entries(options).map(([name, option]) => ({
    name,
    kind: option.kind,
    description: option.description,
    form: option.form,
    default: option.default ?? null,
    ...(option.choices && { choices: option.choices }),
  }));
}
