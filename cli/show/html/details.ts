/**
 * The details of a message in the page: its fields, its registers, its bytes.
 *
 * @module
 */

import { timeText } from "../text.ts";
import type { PageDocument, PageElement } from "./dom.ts";
import { counted, element, table } from "./element.ts";
import { FieldReader, type FoundField } from "./fields.ts";
import type { Model } from "./model.ts";

/** Shows one row. */
export class Details {
  readonly #document: PageDocument;
  readonly #panel: PageElement;
  readonly #model: Model;
  readonly #select: (row: number) => void;

  constructor(
    document: PageDocument,
    panel: PageElement,
    model: Model,
    select: (row: number) => void,
  ) {
    this.#document = document;
    this.#panel = panel;
    this.#model = model;
    this.#select = select;
    this.show(-1);
  }

  /** Shows a row; -1 shows a hint. */
  show(row: number): void {
    const model = this.#model;
    if (row < 0) {
      this.#panel.replaceChildren(
        element(this.#document, "p", "empty", "Select a message in the timeline or in the list."),
      );
      return;
    }
    const { columns, meta } = model;
    const isMessage = columns.kind[row] === 0;
    const name = model.text("name", row);
    const id = isMessage ? `#${columns.id[row]} ` : "";
    const place = model.text("place", row);
    const [value = "", ...fields] = model.text("value", row).split("\n");
    const parts = [
      this.#make("h3", "", `${id}${name} ${isMessage ? model.typeText(row) : ""}`),
      ...(place + value === ""
        ? []
        : [this.#make("p", "says", [place, value].filter((text) => text !== "").join("  "))]),
      this.#facts(row),
    ];
    if (fields.length > 0) {
      const rows = fields.map((text) => {
        const at = text.indexOf("=");
        return [text.slice(0, at), text.slice(at + 1)];
      });
      parts.push(this.#make("h4", "", `Register ${place.split("  ")[0]}`));
      parts.push(table(this.#document, ["Field", "Value"], rows));
    }
    const { descriptors = [], problem, passedOn } = model.extra(row);
    if (problem !== undefined) parts.push(this.#make("p", "problem", `Not decoded: ${problem}`));
    if (descriptors.length > 0) {
      parts.push(this.#make("h4", "", "Descriptors"));
      const rows = descriptors.map((text, i) => [String(i), text]);
      parts.push(table(this.#document, ["Number", "Descriptor"], rows));
    }
    const bytes = model.bytes(row);
    if (bytes.length > 0) {
      const type = meta.types[columns.type[row]!]!;
      const found = isMessage ? new FieldReader(meta, bytes).read(type) : [];
      parts.push(...this.#bytes(bytes, found, columns.length[row]!));
    }
    if (passedOn === null) parts.push(this.#make("p", "problem", "Not passed on."));
    if (typeof passedOn === "string") {
      parts.push(this.#make("h4", "", "Passed on as"));
      parts.push(
        this.#dump(Uint8Array.from(passedOn.match(/../g) ?? [], (each) => {
          return parseInt(each, 16);
        })).dump,
      );
    }
    this.#panel.replaceChildren(...parts);
    this.#panel.scrollTop = 0;
    this.#panel.dataset.row = String(row);
  }

  #make(name: string, className: string, ...parts: (PageElement | string)[]): PageElement {
    return element(this.#document, name, className, ...parts);
  }

  #facts(row: number): PageElement {
    const model = this.#model;
    const { columns, meta } = model;
    const facts: [string, PageElement | string][] = [
      ["Time", `${timeText(columns.time[row]!)} (${(columns.time[row]! / 1e6).toFixed(6)} ms)`],
    ];
    if (columns.latency[row]! >= 0) facts.push(["After", timeText(columns.latency[row]!)]);
    const request = columns.request[row]!;
    const reply = model.reply[row]!;
    if (request >= 0) facts.push(["Request", this.#link(request)]);
    if (reply >= 0) facts.push(["Reply", this.#link(reply)]);
    if (columns.kind[row] === 0 && request < 0 && reply < 0) {
      const wants = meta.types[columns.type[row]!] === "request";
      const none = columns.flags[row]! & 8 ? "none is wanted" : "none is here";
      facts.push([wants ? "Reply" : "Request", none]);
    }
    const isBack = (columns.flags[row]! & 1) !== 0;
    facts.push(["Direction", isBack ? "to the client" : "to the server"]);
    const socket = columns.flags[row]! & 2 ? "twin" : "main";
    facts.push(["Socket", `client ${columns.client[row]}, ${socket}`]);
    if (columns.kind[row] === 0) {
      const origin = meta.origins[columns.origin[row]!]!;
      facts.push(["Sent by", this.#sender(origin, isBack)]);
    }
    const remark = model.text("remark", row);
    if (remark !== "") facts.push(["Remark", remark]);
    const list = this.#make("dl", "");
    for (const [term, text] of facts) {
      list.append(this.#make("dt", "", term), this.#make("dd", "", text));
    }
    return list;
  }

  /** The sender of a message, in words. */
  #sender(origin: string, isToClient: boolean): string {
    if (origin === "peer") return isToClient ? "the server" : "the client";
    return origin === "side" ? "a client of the side socket" : "the recorder";
  }

  #link(row: number): PageElement {
    const { id, time } = this.#model.columns;
    const button = this.#make("button", "link", `#${id[row]}, ${timeText(time[row]!)}`);
    button.setAttribute("type", "button");
    button.addEventListener("click", () => this.#select(row));
    return button;
  }

  #bytes(
    bytes: Uint8Array,
    fields: readonly FoundField[],
    length: number,
  ): readonly PageElement[] {
    const { dump, cells } = this.#dump(bytes);
    const parts: PageElement[] = [];
    if (fields.length > 0) {
      const rows = fields.map((field) => {
        const button = this.#make("button", "link", field.name);
        button.setAttribute("type", "button");
        button.addEventListener("click", () => {
          for (const [i, cell] of cells.entries()) {
            const isIn = i >= field.at && i < field.at + field.width;
            cell.className = isIn ? "byte marked" : "byte";
          }
        });
        return [button, field.text, String(field.at), String(field.width)];
      });
      const made = table(this.#document, ["Field", "Value", "At", "Bytes"], rows, 2);
      made.id = "fields";
      parts.push(this.#make("h4", "", "Fields"), made);
    }
    const kept = bytes.length < length ? `, the first ${bytes.length} are here` : "";
    parts.push(this.#make("h4", "", `${counted(length, "byte")}${kept}`), dump);
    return parts;
  }

  /** Bytes in lines of 16, each byte an element that can be marked. */
  #dump(bytes: Uint8Array): { readonly dump: PageElement; readonly cells: PageElement[] } {
    const cells: PageElement[] = [];
    const dump = this.#make("pre", "hexdump");
    dump.tabIndex = 0;
    dump.setAttribute("aria-label", "Bytes in hexadecimal");
    for (let at = 0; at < bytes.length; at += 16) {
      const line = [...bytes.subarray(at, at + 16)];
      dump.append(this.#make("span", "offset", at.toString(16).padStart(8, "0")), "  ");
      for (const [i, byte] of line.entries()) {
        const cell = this.#make("span", "byte", byte.toString(16).padStart(2, "0"));
        cells.push(cell);
        dump.append(cell, i === 7 ? "  " : " ");
      }
      const text = line.map((byte) =>
        byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "."
      );
      const gap = " ".repeat((16 - line.length) * 3 + (line.length < 8 ? 1 : 0));
      dump.append(`${gap} |${text.join("")}|\n`);
    }
    return { dump, cells };
  }
}
