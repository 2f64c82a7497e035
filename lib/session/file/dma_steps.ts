/**
 * Steps that are about memory of the device.
 *
 * @module
 */

import { dataLength, parseBuffer, parseDataArguments } from "./buffer.ts";
import { constantIn, meant, missingName } from "./definitions.ts";
import type {
  BufferDeclaration,
  DmaDumpStep,
  DmaFillStep,
  DmaLoadStep,
  DmaMapStep,
  DmaPutStep,
  DmaUnmapStep,
  Expression,
  Place,
  StepCommon,
} from "../model.ts";
import { resolvePath } from "./path.ts";
import { checkExtent, parseMemoryPlace, takenBy } from "./place.ts";
import type { Parts } from "./reading.ts";
import { checkVariable } from "./register_steps.ts";
import { type Argument, BUFFER_ARGUMENTS, DATA } from "./arguments.ts";
import { nowhere, type Words } from "./word.ts";

type DmaStep = DmaFillStep | DmaPutStep | DmaLoadStep | DmaDumpStep | DmaMapStep | DmaUnmapStep;

const LENGTH: Argument = { kind: "number", description: "In bytes; default to the buffer's end" };

/** The words of such steps, in the order in which they are listed. */
export const DMA_WORDS: Words<DmaStep> = {
  "dma fill": {
    description: "Repeat data over memory",
    subject: "memory",
    arguments: { ...DATA, length: LENGTH },
    parse: parseFill,
    places: ({ place, length }) => [{ place, ...(length && { length }) }],
  },
  "dma put": {
    description: "Put data into memory",
    subject: "memory",
    arguments: DATA,
    parse: parsePut,
    places: ({ place }) => [{ place }],
  },
  "dma load": {
    description: "Read a file into memory",
    subject: "memory",
    main: "file",
    arguments: { file: { kind: "file", description: "The file", isRequired: true } },
    parse: parseLoad,
    places: ({ place }) => [{ place }],
  },
  "dma dump": {
    description: "Write memory into a file, or show it",
    subject: "memory",
    main: "file",
    arguments: { file: { kind: "file", description: "The file" }, length: LENGTH },
    parse: parseDump,
    places: ({ place, length }) => [{ place, ...(length && { length }) }],
  },
  "dma map": {
    description: "Give memory to the device: a buffer, anew or another",
    subject: "buffer",
    arguments: Object.fromEntries(
      Object.entries(BUFFER_ARGUMENTS).map(([key, { isRequired: _, ...each }]) => [key, each]),
    ),
    parse: parseMap,
    places: nowhere,
  },
  "dma unmap": {
    description: "Take memory from the device",
    subject: "buffer",
    arguments: {},
    parse: parseUnmap,
    places: nowhere,
  },
};

/** The memory that is the subject of a step. */
function memory(word: DmaStep["word"], parts: Parts): Place | undefined {
  return parts.optional(word, (raw) => parseMemoryPlace(raw as string, parts.definitions));
}

function pathIn(parts: Parts): string | undefined {
  const { directory } = parts.definitions;
  return parts.optional("file", (raw) => resolvePath(directory, raw as string));
}

function parseLoad(parts: Parts, common: StepCommon): DmaLoadStep | undefined {
  const place = memory("dma load", parts);
  const path = pathIn(parts);
  if (place === undefined || path === undefined) return undefined;
  return { word: "dma load", ...common, place, path };
}

function parseDump(parts: Parts, common: StepCommon): DmaDumpStep | undefined {
  const place = memory("dma dump", parts);
  const path = pathIn(parts);
  const length = parseLength(place, parts);
  if (place === undefined) return undefined;
  return {
    word: "dma dump",
    ...common,
    place,
    ...(length && { length }),
    ...(path !== undefined && { path }),
  };
}

function parseFill(parts: Parts, common: StepCommon): DmaFillStep | undefined {
  const place = memory("dma fill", parts);
  const data = parseDataArguments(parts);
  const length = parseLength(place, parts);
  return place && data && { word: "dma fill", ...common, place, data, ...(length && { length }) };
}

function parsePut(parts: Parts, common: StepCommon): DmaPutStep | undefined {
  const place = memory("dma put", parts);
  const data = parseDataArguments(parts);
  if (place === undefined || data === undefined) return undefined;
  const length = dataLength(data);
  if (length !== undefined) {
    parts.attempt(["dma put"], () => checkExtent(place, length, parts.definitions));
  }
  return { word: "dma put", ...common, place, data };
}

/** Reads how many bytes. The IOVA space has no end that could be meant. */
function parseLength(place: Place | undefined, parts: Parts): Expression | undefined {
  const length = parts.number("length");
  if (place?.base.kind === "dma" && !parts.has("length")) {
    return parts.fail([], '"length" is missing here: dma+IOVA has no end');
  }
  if (place === undefined || length === undefined) return length;
  parts.attempt(["length"], () => {
    const bytes = constantIn(length, parts.definitions);
    if (bytes === undefined) return;
    if (bytes < 1n) throw new RangeError(`"length" is ${bytes}, not 1 at least`);
    checkExtent(place, Number(bytes), parts.definitions);
  });
  return length;
}

function parseMap(parts: Parts, common: StepCommon): DmaMapStep | undefined {
  const { definitions } = parts;
  const known = definitions.buffers.get(String(parts.raw["dma map"]));
  const name = parts.optional(
    "dma map",
    (raw) => known === undefined ? checkBufferName(String(raw), parts) : String(raw),
  );
  if (name === undefined) return undefined;
  const buffer = parseBuffer(name, parts, known);
  if (buffer === undefined) {
    if (!parts.isGood) return undefined;
    const missing = parts.has("iova") ? "size" : "iova";
    return parts.fail([], `"${missing}" is missing here: ${name} is no buffer that was declared`);
  }
  definitions.buffers.set(name, buffer);
  return { word: "dma map", ...common, buffer };
}

/**
 * Checks that a buffer can have this name.
 *
 * @throws {SyntaxError} if it is no name
 * @throws {RangeError} if something else has it
 */
function checkBufferName(name: string, parts: Parts): string {
  checkVariable(name, parts);
  const taken = parts.definitions.variables.has(name)
    ? "a variable"
    : takenBy(name, parts.definitions);
  if (taken === undefined) return name;
  throw new RangeError(`"${name}" is the name of ${taken}; give the buffer another`);
}

function parseUnmap(parts: Parts, common: StepCommon): DmaUnmapStep | undefined {
  const name = parts.optional("dma unmap", (raw) => {
    const buffers: ReadonlyMap<string, BufferDeclaration> = parts.definitions.buffers;
    if (buffers.has(String(raw))) return String(raw);
    throw missingName(
      parts.definitions,
      `"${raw}" is no buffer; ${
        meant(String(raw), buffers.keys(), "declare it under buffers, or map it before")
      }`,
    );
  });
  return name === undefined ? undefined : { word: "dma unmap", ...common, buffer: name };
}
