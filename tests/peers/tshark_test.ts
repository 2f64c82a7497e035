import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { RECORDING_SECTION_INTERFACES } from "../../lib/base/limits.ts";
import { Conversation } from "../../lib/record/conversation.ts";
import { dissectorField, dissectorScript, flagWord } from "../../lib/record/dissector.ts";
import type { NewEvent } from "../../lib/record/event.ts";
import { readRecording } from "../../lib/record/reader.ts";
import type { Codec, PayloadForm } from "../../lib/wire/codec.ts";
import { Command } from "../../lib/wire/command.ts";
import {
  DeviceStateData,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
  MigrationData,
} from "../../lib/wire/feature.ts";
import { encodeMessage } from "../../lib/wire/header.ts";
import type { StructForm } from "../../lib/wire/layout.ts";
import { type MessageCodecs, messageOf, messages } from "../../lib/wire/messages.ts";
import { anyEvent, plainMessage, temporaryFile, writeRecording } from "../lib/record/_events.ts";
import { GOLDEN_RECORDINGS, writeGolden } from "../lib/record/_golden.ts";
import { Talk } from "../lib/record/_talk.ts";
import { arbitraries } from "../lib/wire/_arbitraries.ts";

/** Messages of each kind, at random, some refused, some without a reply. */
function conversation(): Talk {
  const talk = new Talk();
  for (const name of Object.keys(messages) as (keyof typeof messages)[]) {
    const { request, reply } = arbitraries[name];
    const replies = fc.sample(reply as fc.Arbitrary<unknown>, { numRuns: 8, seed: 1 });
    for (
      const [i, value] of fc.sample(request as fc.Arbitrary<unknown>, { numRuns: 8, seed: 2 })
        .entries()
    ) {
      const id = talk.ask(name, value as never);
      if (i === 0) talk.refuse(name, id, 22);
      else if (i !== 1) talk.answer(name, id, replies[i] as never);
    }
  }
  return talk;
}

/** Runs tshark over a recording. It must not complain; root's greeting is no complaint. */
async function tshark(path: string, ...args: string[]): Promise<string> {
  const script = await Deno.makeTempFile({ suffix: ".lua" });
  try {
    await Deno.writeTextFile(script, dissectorScript());
    const command = new Deno.Command("tshark", {
      args: ["-2", "-n", "-X", `lua_script:${script}`, "-r", path, ...args],
    });
    const { code, stdout, stderr } = await command.output();
    const complaints = new TextDecoder().decode(stderr).split("\n")
      .filter((line) => line !== "" && !line.startsWith("Running as user "));
    assertEquals([code, complaints], [0, []]);
    return new TextDecoder().decode(stdout);
  } finally {
    await Deno.remove(script);
  }
}

/** Values of fields for each packet: of a field that occurs often, all. */
async function fieldsOf(path: string, names: readonly string[]): Promise<Map<string, string>[]> {
  const options = [
    "-T",
    "fields",
    "-E",
    "separator=/t",
    "-E",
    "occurrence=a",
    "-E",
    "aggregator=;",
  ];
  const out = await tshark(path, ...options, ...names.flatMap((name) => ["-e", name]));
  return out.split("\n").slice(0, -1).map((line) =>
    new Map(line.split("\t").map((value, i) => [names[i]!, value]))
  );
}

/** Values in the head of a payload, by our decode: counts of data and lists are their lengths. */
function expectedOf(key: string, value: Record<string, unknown>): bigint | undefined {
  const own = value[key];
  if (typeof own === "number" || typeof own === "bigint") return BigInt(own);
  const list = value.data ?? value.writes;
  if (key === "count" || key === "size") return BigInt((list as ArrayLike<unknown>).length);
  return undefined; // capOffset alone, which decoding uses up
}

type Values = Record<string, unknown>;

/** Expected values of fields by their names, in the order in which they occur. */
class Expected {
  readonly values = new Map<string, bigint[]>();

  /** Adds the flags of a struct's fields, and the fields if they are asked for. */
  struct(path: readonly string[], { fields }: StructForm, value: Values, withFields = true): void {
    for (const [key, { flags = {} }] of Object.entries(fields)) {
      const own = value[key];
      if (typeof own !== "number" && typeof own !== "bigint") continue;
      const number = BigInt(own);
      if (withFields) this.#add(dissectorField(...path, key), number);
      for (const [flag, each] of Object.entries(flags)) {
        const mask = BigInt(each);
        const lowest = mask & -mask;
        const name = dissectorField(...path, key, flagWord(flag, mask));
        this.#add(name, (number & mask) / lowest);
      }
    }
  }

  /** Adds all of a form: of a capability, or of a feature. */
  form(path: readonly string[], { heads: [head], tail }: PayloadForm, value: Values): void {
    if (head === undefined) return;
    if (tail.kind !== "entries") return this.struct(path, head, value);
    const entries = value[tail.name] as Values[];
    this.struct(path, head, { ...value, [tail.count]: entries.length });
    for (const each of entries) this.struct([...path, tail.name], tail.forms[0]!, each);
  }

  #add(name: string, value: bigint): void {
    this.values.set(name, [...this.values.get(name) ?? [], value]);
  }
}

/** All fields that a form may have below a path. */
function fieldNames(path: readonly string[], { heads, tail }: PayloadForm): string[] {
  const ofStruct = (path: readonly string[], { fields }: StructForm) =>
    Object.entries(fields).flatMap(([key, { flags = {} }]) => [
      dissectorField(...path, key),
      ...Object.entries(flags)
        .map(([flag, mask]) => dissectorField(...path, key, flagWord(flag, mask))),
    ]);
  const names = heads.flatMap((head) => ofStruct(path, head));
  if (tail.kind === "entries") {
    names.push(...tail.forms.flatMap((form) => ofStruct([...path, tail.name], form)));
  }
  const variants = tail.kind === "bytes" || tail.kind === "chain" ? tail.variants : undefined;
  for (const { name, form } of Object.values(variants?.forms ?? {})) {
    names.push(...fieldNames([...path, name], form));
  }
  return names;
}

const FEATURES: Readonly<Record<string, Codec<unknown>>> = {
  MIGRATION: MigrationData,
  MIG_DEVICE_STATE: DeviceStateData,
  DMA_LOGGING_START: DmaLoggingStartData,
  DMA_LOGGING_REPORT: DmaLoggingReportData,
};

/** Flags, capabilities and features in a payload, as we decode them. */
function insides(name: string, { heads: [head], tail }: PayloadForm, value: Values): Expected {
  const expected = new Expected();
  if (head !== undefined) expected.struct([name], head, value, false);
  if (tail.kind === "chain") {
    const forms = Object.values(tail.variants.forms);
    for (const each of value[tail.name] as (Values & { kind: string })[]) {
      const variant = forms.find(({ name }) => name === each.kind);
      if (variant !== undefined) expected.form([name, each.kind], variant.form, each);
    }
  }
  if (tail.kind === "bytes" && tail.variants !== undefined) {
    const { field, mask, forms } = tail.variants;
    const data = value[tail.name] as Uint8Array;
    const variant = forms[(value[field] as number) & mask];
    const isThere = variant !== undefined && data.length >= variant.form.heads[0]!.size;
    if (isThere) {
      expected.form(
        [name, variant.name],
        variant.form,
        FEATURES[variant.name]!.decode(data) as Values,
      );
    }
  }
  return expected;
}

/** A number as tshark writes it, of any version. */
function numberOf(text: string): bigint {
  return text === "True" ? 1n : text === "False" ? 0n : BigInt(text);
}

/** Compares tshark's fields with our decode, for each message of a recording; returns how many. */
async function compareFields(path: string): Promise<number> {
  const header = ["id", "command", "size", "flags", "error"].map((each) => dissectorField(each));
  const links = ["request_in", "response_in", "response_time"].map((each) => `vfio_user.${each}`);
  const names = new Set([...header, ...links, "frame.packet_flags_direction"]);
  for (
    const { name, request, reply } of Object.values(messages) as MessageCodecs<unknown, unknown>[]
  ) {
    for (const { form: { heads, tail } } of [request, reply]) {
      for (const each of fieldNames([name], { heads, tail })) names.add(each);
      for (const key of heads.flatMap(({ fields }) => Object.keys(fields))) {
        names.add(dissectorField(name, key));
      }
      if (tail.kind === "bytes") names.add(dissectorField(name, tail.name));
      if (tail.kind === "entries") {
        for (const key of tail.forms.flatMap(({ fields }) => Object.keys(fields))) {
          names.add(dissectorField(name, tail.name, key));
        }
      }
      if (tail.kind === "chain") names.add(dissectorField(name, tail.name, "id"));
    }
  }
  const packets = await fieldsOf(path, [...names]);
  const heard = new Conversation();
  const replies = new Map<number, number>();
  let compared = 0;
  for await (const event of readRecording(path)) {
    const message = heard.take(event);
    const packet = packets[event.index]!;
    if (message === undefined) continue;
    const { decoded, request, latencyNs } = message;
    const { messageId, command, size, flags, error } = decoded!.header;
    const numbers = header.map((each) => Number(packet.get(each)));
    assertEquals(numbers, [messageId, command, size, flags, error]);
    const way = event.kind === "message" && event.direction === "to-client" ? 1 : 2;
    assertEquals(Number(packet.get("frame.packet_flags_direction")), way);
    assertEquals(packet.get("vfio_user.request_in"), request ? String(request.index + 1) : "");
    const time = packet.get("vfio_user.response_time")!;
    assertEquals(time === "" ? undefined : BigInt(Math.round(Number(time) * 1e9)), latencyNs);
    if (request !== undefined) replies.set(request.index, event.index);
    const payload = decoded!.payload;
    if (payload?.value === undefined) continue;
    const { form } = messageOf(command)![payload.side];
    const { heads, tail } = form;
    const value = payload.value as unknown as Values;
    for (const [field, numbers] of insides(payload.name, form, value).values) {
      const found = packet.get(field)!;
      assertEquals([field, found.split(";").map(numberOf)], [field, numbers]);
      compared++;
    }
    for (const key of Object.keys(heads[0]?.fields ?? {})) {
      const expected = expectedOf(key, value);
      const found = packet.get(dissectorField(payload.name, key))!;
      if (expected === undefined) continue;
      assertEquals([key, BigInt(found)], [key, expected]);
      compared++;
    }
    if (tail.kind === "bytes") {
      const data = value[tail.name] as Uint8Array | undefined;
      const found = packet.get(dissectorField(payload.name, tail.name));
      assertEquals(found, data?.toHex() ?? "");
    }
    if (tail.kind === "entries") {
      const entries = value[tail.name] as Record<string, unknown>[];
      const found = packet.get(dissectorField(payload.name, tail.name, "offset"))!;
      const offsets = found === "" ? [] : found.split(";").map(BigInt);
      assertEquals(offsets, entries.map(({ offset }) => offset as bigint));
    }
    if (tail.kind === "chain") {
      const found = packet.get(dissectorField(payload.name, tail.name, "id"))!;
      const count = found === "" ? 0 : found.split(";").length;
      assertEquals(count, (value[tail.name] as unknown[]).length);
    }
  }
  for (const [index, packet] of packets.entries()) {
    const reply = replies.get(index);
    const expected = reply === undefined ? "" : String(reply + 1);
    assertEquals(packet.get("vfio_user.response_in"), expected);
  }
  return compared;
}

Deno.test("tshark's fields are those of our decode, for each message of a recording", async () => {
  using file = temporaryFile();
  writeRecording(file.path, conversation().events);
  const compared = await compareFields(file.path);
  assert(compared > 500, `${compared} fields were compared`);
});

Deno.test("tshark names flags, and takes features and capabilities apart", async () => {
  using file = temporaryFile();
  const talk = new Talk();
  const ranges = [{ iova: 0x1000n, length: 0x2000n }, { iova: 1n << 40n, length: 8n }];
  const bitmap = new Uint8Array(8);
  const datas: [index: number, data: Uint8Array][] = [
    [Feature.MIGRATION, MigrationData.encode({ flags: 5n })],
    [Feature.MIG_DEVICE_STATE, DeviceStateData.encode({ state: 4, dataFd: 7 })],
    [Feature.DMA_LOGGING_START, DmaLoggingStartData.encode({ pageSize: 4096n, ranges })],
    [
      Feature.DMA_LOGGING_REPORT,
      DmaLoggingReportData.encode({ ...ranges[0]!, pageSize: 4096n, bitmap }),
    ],
    [99, new Uint8Array(3)],
  ];
  for (const [index, data] of datas) {
    const value = { argsz: 8 + data.length, flags: FeatureFlags.SET | index, data };
    talk.answer("DEVICE_FEATURE", talk.ask("DEVICE_FEATURE", value), value);
  }
  writeRecording(file.path, talk.events);
  const compared = await compareFields(file.path);
  assert(compared > 40, `${compared} fields were compared`);
  const out = await tshark(file.path, "-V");
  for (const words of ["MIG_DEVICE_STATE", "RESUMING", "stop_copy: True", "set: True"]) {
    assertStringIncludes(out, words);
  }
});

Deno.test("tshark's columns say who sent a message, its place, and how much of it", async () => {
  using file = temporaryFile();
  const talk = new Talk();
  const argsz = 32;
  const region = { argsz, index: 7, flags: 3, size: 4096n, offset: 0n, capabilities: [] };
  const irqs = talk.ask("DEVICE_GET_IRQ_INFO", { argsz, index: 2 });
  talk.answer("DEVICE_GET_IRQ_INFO", irqs, { argsz, flags: 1, index: 2, count: 5 });
  talk.answer(
    "DEVICE_GET_REGION_INFO",
    talk.ask("DEVICE_GET_REGION_INFO", { argsz, index: 7 }),
    region,
  );
  talk.ask("DMA_MAP", { argsz, flags: 3, offset: 0n, address: 0x1000n, size: 0x2000n });
  talk.ask("DMA_READ", { address: 0x1000n, count: 1n });
  talk.ask("REGION_READ", { region: 0, offset: 8n, count: 4 });
  writeRecording(file.path, talk.events);
  const columns = ["%s", "%d", "%i"].map((each, i) => `"${i}","${each}"`).join(",");
  const out = await tshark(file.path, "-o", `gui.column.format:${columns}`);
  assertEquals(out.trim().split("\n").map((line) => line.trim().split(/\s+/).join(" ")), [
    "client → server #1 DEVICE_GET_IRQ_INFO request msix",
    "server → client #1 DEVICE_GET_IRQ_INFO reply msix 5 vectors",
    "client → server #2 DEVICE_GET_REGION_INFO request config",
    "server → client #2 DEVICE_GET_REGION_INFO reply config size 0x1000",
    "client → server #3 DMA_MAP request iova 0x1000 size 0x2000",
    "server → client #4 DMA_READ request iova 0x1000 1 byte",
    "client → server #5 REGION_READ request bar0+0x8 4 bytes",
  ]);
});

Deno.test("tshark pairs requests whose ids a recorder has changed, or that it answers", async () => {
  using file = temporaryFile();
  const talk = new Talk();
  const read = { region: 0, offset: 8n, count: 4 };
  const data = new Uint8Array(4);
  const changed = (id: number) => encodeMessage({ messageId: id, command: Command.REGION_READ });
  // The client's is in flight with the id that one of the side has as well.
  const own = talk.ask("REGION_READ", read);
  const side = { origin: "side" } as const;
  talk.ask("REGION_READ", read, { ...side, passedOn: changed(500) });
  talk.events.at(-1)!.kind === "message" &&
    ((talk.events.at(-1) as { bytes: Uint8Array }).bytes[0] = own);
  const refused = talk.ask("REGION_READ", read, { ...side, passedOn: null });
  talk.refuse("REGION_READ", refused, 1, { origin: "recorder" });
  talk.answer("REGION_READ", 500, { ...read, data }, { ...side, passedOn: changed(own) });
  talk.answer("REGION_READ", own, { ...read, data });
  writeRecording(file.path, talk.events);
  await compareFields(file.path);
  const conversation = new Conversation();
  const pairs = [];
  for await (const event of readRecording(file.path)) {
    pairs.push(conversation.take(event)!.request?.index);
  }
  assertEquals(pairs, [undefined, undefined, undefined, 2, 1, 0]);
});

Deno.test("tshark's fields are those of our decode in recordings of real peers", async (t) => {
  for (const name of GOLDEN_RECORDINGS) {
    await t.step(name, async () => {
      using file = temporaryFile();
      writeGolden(name, file.path);
      const compared = await compareFields(file.path);
      assert(compared > 100, `${compared} fields were compared`);
    });
  }
});

Deno.test("tshark reads any events, and the sections of many clients, without complaint", async () => {
  using file = temporaryFile();
  const events: NewEvent[] = fc.sample(anyEvent, { numRuns: 300, seed: 3 })
    .map((event) => ({ ...event, timeNs: event.timeNs >> 3n }));
  const clients = Array.from(
    { length: RECORDING_SECTION_INTERFACES + 10 },
    (_, connection) => plainMessage(new Uint8Array(16), { connection }),
  );
  writeRecording(file.path, [...events, ...clients]);
  const out = await tshark(file.path, "-T", "fields", "-e", "frame.protocols");
  const protocols = out.trimEnd().split("\n");
  assertEquals(protocols.length, events.length + clients.length);
  // Of no bytes at all Wireshark asks no dissector.
  const isEmpty = (event: NewEvent) => "bytes" in event && event.bytes.length === 0;
  assertEquals(
    protocols.map((each) => each.includes("vfio_user")),
    [...events, ...clients].map((event) => !isEmpty(event)),
  );
});
