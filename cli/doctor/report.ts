/**
 * The report of `vfu doctor`: for a person, and as JSON.
 *
 * @module
 */

import { CAUSES } from "../../lib/client/diagnose/causes.ts";
import { CONNECTION_CAUSES } from "../../lib/client/diagnose/connection_causes.ts";
import { plural } from "../../lib/text/plural.ts";
import type { Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { type Cell, tableLines, wrapWords } from "../shared/table.ts";
import type { Report } from "./examine.ts";

/** The object that `vfu doctor --json` writes. Later versions add keys. */
export interface DoctorJson {
  /** The path of the server's socket. */
  socket: string;
  /** True if there was a connection, and the device was looked at. */
  connected: boolean;
  /**
   * The causes that were found, those that explain most first. `command` is a line that mends it or
   * shows it; it and `remedy` may be null.
   */
  found: { cause: string; evidence: string; remedy: string | null; command: string | null }[];
  /** All causes that are known. */
  looked_for: { cause: string; title: string }[];
}

const KNOWN = [
  ...Object.entries(CONNECTION_CAUSES).map(([cause, title]) => ({ cause, title })),
  ...CAUSES.map(({ id, title }) => ({ cause: id, title })),
];

/** The report as text of JSON. */
export function doctorJson({ socket, isConnected, found }: Report): string {
  const json: DoctorJson = {
    socket,
    connected: isConnected,
    found: found.map(({ cause, evidence, remedy, command }) => ({
      cause,
      evidence,
      remedy: remedy ?? null,
      command: command === undefined ? null : commandLine(command, socket),
    })),
    looked_for: KNOWN,
  };
  return `${jsonText(json, 2)}\n`;
}

/** The report for a person, of at most `columns` columns. */
export function doctorText(
  { socket, isConnected, found }: Report,
  { columns, style }: Pick<Output, "columns" | "style">,
): string {
  if (found.length === 0) {
    const text = `Nothing is in the way of ${printable(socket)}: ` +
      `none of ${plural(KNOWN.length, "known cause")} was found.`;
    return wrapWords(text, columns).join("\n") + "\n";
  }
  const rows = found.flatMap(({ cause, evidence, remedy, command }): Cell[][] => [
    [{ text: cause, paint: style.yellow }, sentence(printable(evidence))],
    ...(remedy === undefined ? [] : [["", `Try: ${printable(remedy)}.`]]),
    ...(command === undefined ? [] : [["", whole(`Run: ${commandLine(command, socket)}`)]]),
  ]);
  const end = isConnected ? " A device that works all the same ignores them." : "";
  const lines = wrapWords(`${plural(found.length, "cause")} found.${end}`, columns);
  return [...tableLines(rows, { columns, indent: 0 }), "", ...lines].join("\n") + "\n";
}

/** A line for the shell, of what a cause says. */
function commandLine(command: string, socket: string): string {
  return `vfu ${command.replace("SOCKET", () => shellWord(socket))}`;
}

function whole(text: string): Cell {
  return { text: printable(text), isWhole: true };
}

/** A sentence of a clause. Names of regions and indexes stay as they are. */
function sentence(text: string): string {
  if (/^(bar\d|rom|vga|config|region|intx|msix?|irq)\b/.test(text)) return `${text}.`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
