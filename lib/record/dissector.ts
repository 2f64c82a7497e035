/**
 * Wireshark's dissector of vfio-user: a script in Lua, made of the tables of `lib/wire/`.
 *
 * @module
 */

import { errnoName } from "../../ffi/errno.ts";
import { MAX_CAPABILITIES } from "../base/limits.ts";
import type { PayloadForm, PayloadTail, PayloadVariants } from "../wire/codec.ts";
import { Command } from "../wire/command.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { DeviceState, Feature } from "../wire/feature.ts";
import { PciIrq } from "../wire/irq.ts";
import type { StructForm } from "../wire/layout.ts";
import { type MessageCodecs, messages } from "../wire/messages.ts";
import { PciRegion, RegionCapabilityId } from "../wire/region.ts";
import { EVENT_DISSECTOR, MESSAGE_DISSECTOR, PairingFlags } from "./packet.ts";

/** The highest errno of Linux, so far. */
const MAX_ERRNO = 133;
/** Structs that follow one another which are taken apart. */
const MAX_ENTRIES = 4096;
/** Fields that are read best in hexadecimal. */
const HEXADECIMAL = /^(?:address|offset|fdOffset|shadowOffset|size|flags|value|data|capOffset)$/;
/** Fields whose values have names, each with the table of the script that has them. */
const NAMED: readonly (readonly [field: RegExp, table: string])[] = [
  [/\.(?:region|device_get_region_\w+\.index)$/, "region_names"],
  [/\.device_(?:get_irq_info|set_irqs)\.index$/, "irq_names"],
  [/\.device_feature\.flags\.index$/, "feature_names"],
  [/\.mig_device_state\.state$/, "state_names"],
  [/\.capabilities\.id$/, "capability_names"],
];
/** Masks of several bits, which hold a number. */
const MASK_NAME = /_MASK(?:_BITS)?$/;

/** The name of a field in Wireshark: `vfio_user.region_read.offset`. */
export function dissectorField(...path: readonly string[]): string {
  const words = path.map((each) =>
    /^[A-Z_]+$/.test(each)
      ? each.toLowerCase()
      : each.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  );
  return [MESSAGE_DISSECTOR, ...words].join(".");
}

/** Fields of the script by their names, each with the Lua that declares it. */
class Fields {
  readonly #declared = new Map<string, { readonly width: number; readonly lua: string }>();

  /** Declares an integer; of two widths the larger counts. */
  integer(name: string, label: string, width: number): string {
    const known = this.#declared.get(name);
    if (known === undefined || known.width < width) {
      const base = HEXADECIMAL.test(label) ? "base.HEX" : "base.DEC";
      const lua = `ProtoField.uint${width * 8}("${name}", "${label}", ${base}, ${namesOf(name)})`;
      this.#declared.set(name, { width, lua });
    }
    return name;
  }

  /** Declares a flag, or bits that hold a number, of an integer. */
  bits(name: string, label: string, width: number, mask: bigint): string {
    const lua = isOneBit(mask)
      ? `ProtoField.bool("${name}", "${label}", ${width * 8}, nil, ${mask})`
      : `ProtoField.uint${width * 8}("${name}", "${label}", base.DEC, ${namesOf(name)}, ${mask})`;
    this.#declared.set(name, { width, lua });
    return name;
  }

  /** Declares bytes or a text. */
  other(name: string, label: string, type: "bytes" | "string"): string {
    this.#declared.set(name, { width: 0, lua: `ProtoField.${type}("${name}", "${label}")` });
    return name;
  }

  lua(): string {
    return [...this.#declared].map(([name, { lua }]) => `f["${name}"] = ${lua}`).join("\n");
  }
}

function namesOf(field: string): string {
  return NAMED.find(([names]) => names.test(field))?.[1] ?? "nil";
}

function isOneBit(mask: bigint): boolean {
  return (mask & (mask - 1n)) === 0n;
}

/** The word by which a flag is known below its field: "read", or "index" of INDEX_MASK. */
export function flagWord(flag: string, mask: number | bigint): string {
  return (isOneBit(BigInt(mask)) ? flag : flag.replace(MASK_NAME, "")).toLowerCase();
}

/**
 * The script. Wireshark and tshark load it with `-X lua_script:FILE`, or from the folder of
 * plugins.
 *
 * @example
 * ```ts
 * import { dissectorScript } from "./dissector.ts";
 *
 * console.assert(dissectorScript().includes("vfio_user.region_read.offset"));
 * ```
 */
export function dissectorScript(): string {
  const fields = new Fields();
  const forms = Object.values(messages).map((each: MessageCodecs<unknown, unknown>) => {
    const sides = ([["request", each.request], ["reply", each.reply]] as const)
      .map(([side, { form }]) => `    ${side} = ${formLua(fields, [each.name], form)},`);
    return `  [${each.command}] = {\n    sender = "${each.sender}",\n${sides.join("\n")}\n  },`;
  });
  const lines = [
    "-- Wireshark's dissector of vfio-user, written by `vfu show --dissector`. Do not edit.",
    "local f = {}",
    `local command_names = ${valuesLua(Command)}`,
    `local region_names = ${valuesLua(PciRegion, true)}`,
    `local irq_names = ${valuesLua(PciIrq, true)}`,
    `local feature_names = ${valuesLua(Feature)}`,
    `local state_names = ${valuesLua(DeviceState)}`,
    `local capability_names = ${valuesLua(RegionCapabilityId, true)}`,
    `local errno_names = ${errnosLua()}`,
    fields.lua(),
    `local forms = {\n${forms.join("\n")}\n}`,
    headerLua(),
    TEMPLATE,
  ];
  return `${lines.join("\n")}\n`;
}

function valuesLua(table: Readonly<Record<string, number>>, isLower = false): string {
  const entries = Object.entries(table)
    .map(([name, value]) => `[${value}] = "${isLower ? name.toLowerCase() : name}"`);
  return `{ ${entries.join(", ")} }`;
}

function errnosLua(): string {
  const codes = Array.from({ length: MAX_ERRNO }, (_, i) => i + 1);
  return `{ [0] = "none", ${codes.map((code) => `[${code}] = "${errnoName(code)}"`).join(", ")} }`;
}

function structLua(fields: Fields, path: readonly string[], { size, fields: table }: StructForm) {
  const entries = Object.entries(table).map(([key, { offset, width, flags = {} }]) => {
    const name = fields.integer(dissectorField(...path, key), key, width);
    const bits = Object.entries(flags).map(([flag, mask]) => {
      const word = flagWord(flag, mask);
      return `"${fields.bits(dissectorField(...path, key, word), word, width, BigInt(mask))}"`;
    });
    return `{ "${name}", "${key}", ${offset}, ${width}, { ${bits.join(", ")} } }`;
  });
  return `{ size = ${size}, fields = { ${entries.join(", ")} } }`;
}

function formLua(fields: Fields, path: readonly string[], { heads, tail }: PayloadForm): string {
  const structs = heads.map((head) => structLua(fields, path, head));
  return `{ heads = { ${structs.join(", ")} }, tail = ${tailLua(fields, path, tail)} }`;
}

function variantsLua(
  fields: Fields,
  path: readonly string[],
  { field, mask, forms }: PayloadVariants,
): string {
  const entries = Object.entries(forms).map(([number, { name, form }]) =>
    `[${number}] = ${formLua(fields, [...path, name], form)}`
  );
  return `{ field = "${field}", mask = ${mask}, forms = { ${entries.join(", ")} } }`;
}

function tailLua(fields: Fields, path: readonly string[], tail: PayloadTail): string {
  if (tail.kind === "none") return '{ kind = "none" }';
  const at = dissectorField(...path, tail.name);
  const parts = [`kind = "${tail.kind}"`];
  switch (tail.kind) {
    case "bytes":
      parts.push(`field = "${fields.other(at, tail.name, "bytes")}"`);
      if (tail.length !== undefined) parts.push(`length = "${tail.length}"`);
      if (tail.variants !== undefined) {
        parts.push(`variants = ${variantsLua(fields, path, tail.variants)}`);
      }
      break;
    case "text":
      parts.push(`field = "${fields.other(at, tail.name, "string")}"`);
      break;
    case "entries": {
      const forms = tail.forms.map((form) => structLua(fields, [...path, tail.name], form));
      parts.push(`count = "${tail.count}"`, `forms = { ${forms.join(", ")} }`);
      break;
    }
    case "chain": {
      const form = structLua(fields, [...path, tail.name], tail.form);
      const variants = variantsLua(fields, path, tail.variants);
      parts.push(`start = "${tail.start}"`, `flag = ${tail.flag}`, `form = ${form}`);
      parts.push(`variants = ${variants}`, `known_version = ${tail.knownVersion}`);
    }
  }
  return `{ ${parts.join(", ")} }`;
}

function headerLua(): string {
  const { offsets } = HeaderLayout;
  const numbers = {
    HEADER_SIZE,
    AT_ID: offsets.messageId,
    AT_COMMAND: offsets.command,
    AT_SIZE: offsets.size,
    AT_FLAGS: offsets.flags,
    AT_ERROR: offsets.error,
    TYPE_MASK: MessageFlags.TYPE_MASK,
    NO_REPLY: MessageFlags.NO_REPLY,
    ERROR: MessageFlags.ERROR,
    MAX_ENTRIES,
    MAX_CAPABILITIES,
    PAIRING_SET: PairingFlags.SET,
  };
  return Object.entries(numbers).map(([name, value]) => `local ${name} = ${value}`).join("\n");
}

const TEMPLATE = String.raw`
local vfio_user = Proto("${MESSAGE_DISSECTOR}", "vfio-user")
local events = Proto("${EVENT_DISSECTOR}", "vfio-user event")

local h = {
  id = ProtoField.uint16("vfio_user.id", "Message id", base.DEC),
  command = ProtoField.uint16("vfio_user.command", "Command", base.DEC, command_names),
  size = ProtoField.uint32("vfio_user.size", "Size", base.DEC),
  flags = ProtoField.uint32("vfio_user.flags", "Flags", base.HEX),
  type = ProtoField.uint32("vfio_user.type", "Type", base.DEC, { [0] = "command", [1] = "reply" }),
  no_reply = ProtoField.bool("vfio_user.no_reply", "No reply"),
  is_error = ProtoField.bool("vfio_user.is_error", "Error reply"),
  error = ProtoField.uint32("vfio_user.error", "Error", base.DEC, errno_names),
  request_in = ProtoField.framenum("vfio_user.request_in", "Request in", base.NONE, frametype.REQUEST),
  response_in = ProtoField.framenum("vfio_user.response_in", "Reply in", base.NONE, frametype.RESPONSE),
  response_time = ProtoField.relative_time("vfio_user.response_time", "Time from request to reply"),
}
local event_json = ProtoField.string("vfio_user_event.json", "Event")
local all = {}
for _, field in pairs(h) do all[#all + 1] = field end
for _, field in pairs(f) do all[#all + 1] = field end
vfio_user.fields = all
events.fields = { event_json }

local failed = ProtoExpert.new("vfio_user.failed", "The request failed", expert.group.RESPONSE_CODE, expert.severity.NOTE)
local damaged = ProtoExpert.new("vfio_user.damaged", "The size is not that of the message", expert.group.MALFORMED, expert.severity.WARN)
vfio_user.experts = { failed, damaged }

local interface_field = Field.new("frame.interface_id")
local direction_field = Field.new("frame.packet_flags_direction")
local has_section, section_field = pcall(Field.new, "frame.section_number")

local pending, request_of, reply_of
function vfio_user.init()
  pending, request_of, reply_of = {}, {}, {}
end

local function number_of(field)
  local info = field and field()
  return info and tostring(info.value) or ""
end

-- Request and reply share socket, sender and id. A recorder that changed the id says so.
local function key_of(command, id, pairing)
  if bit.band(pairing, PAIRING_SET) ~= 0 then id = bit.band(pairing, PAIRING_SET - 1) end
  local form = forms[command]
  local section = has_section and number_of(section_field) or ""
  local sender = form and form.sender or "?"
  return section .. " " .. number_of(interface_field) .. " " .. sender .. " " .. id
end

local function link(header, pinfo, tree)
  local is_request = header.type == 0
  local number = pinfo.number
  if not pinfo.visited then
    local key = key_of(header.command, header.id, pinfo.src_port)
    if is_request and bit.band(header.flags, NO_REPLY) == 0 then
      pending[key] = { number = number, time = pinfo.rel_ts, command = header.command }
    elseif header.type == 1 then
      local request = pending[key]
      if request and request.command == header.command then
        pending[key] = nil
        request_of[number] = request
        reply_of[request.number] = number
      end
    end
  end
  if is_request and reply_of[number] then
    tree:add(h.response_in, reply_of[number]):set_generated()
  elseif request_of[number] then
    local request = request_of[number]
    tree:add(h.request_in, request.number):set_generated()
    local ns = math.floor((pinfo.rel_ts - request.time) * 1e9 + 0.5)
    tree:add(h.response_time, NSTime.new(math.floor(ns / 1e9), ns % 1e9)):set_generated()
  end
end

-- Adds the fields of a struct, and returns those of at most 32 bits as numbers.
local function add_struct(form, payload, at, tree)
  local values = {}
  for _, field in ipairs(form.fields) do
    local range = payload(at + field[3], field[4])
    local item = tree:add_le(f[field[1]], range)
    for _, bits in ipairs(field[5]) do item:add_le(f[bits], range) end
    values[field[2]] = field[4] == 8 and range:le_uint64() or range:le_uint()
  end
  return values
end

local function plain(value)
  return type(value) == "number" and value or value:tonumber()
end

local add_payload

-- Adds what a field of a struct says that follows the struct.
local function add_variant(variants, values, payload, from, to, tree)
  local form = variants.forms[bit.band(values[variants.field], variants.mask)]
  if form and to > from then add_payload(form, payload(from, to - from):tvb(), tree) end
end

local function add_chain(tail, payload, values, tree)
  if bit.band(values.flags, tail.flag) == 0 then return end
  local found, starts = {}, {}
  local from = plain(values[tail.start])
  for n = 1, MAX_CAPABILITIES do
    if from == 0 or from + tail.form.size > payload:len() then break end
    local entry = tree:add(payload(from, tail.form.size), "Capability " .. n)
    local head = add_struct(tail.form, payload, from, entry)
    found[n], starts[n] = { from = from, head = head, entry = entry }, from
    from = head.next
  end
  for _, each in ipairs(found) do
    local to = payload:len()
    for _, start in ipairs(starts) do
      if start > each.from then to = math.min(to, start) end
    end
    if each.head.version <= tail.known_version then
      add_variant(tail.variants, each.head, payload, each.from + tail.form.size, to, each.entry)
    end
  end
end

local function add_tail(tail, payload, at, values, tree)
  local left = payload:len() - at
  if tail.kind == "bytes" then
    local length = tail.length and math.min(left, plain(values[tail.length])) or left
    if length > 0 then
      local data = tree:add(f[tail.field], payload(at, length))
      if tail.variants then add_variant(tail.variants, values, payload, at, at + length, data) end
    end
  elseif tail.kind == "text" then
    if left > 0 then tree:add(f[tail.field], payload(at, left)) end
  elseif tail.kind == "entries" then
    local count = math.min(plain(values[tail.count]), MAX_ENTRIES)
    for i, form in ipairs(tail.forms) do
      if count > 0 and (count * form.size == left or i == #tail.forms) then
        for n = 0, math.min(count, math.floor(left / form.size)) - 1 do
          local from = at + n * form.size
          add_struct(form, payload, from, tree:add(payload(from, form.size), "Entry " .. n))
        end
        return
      end
    end
  elseif tail.kind == "chain" then
    add_chain(tail, payload, values, tree)
  end
end

function add_payload(form, payload, tree)
  local values, at = {}, 0
  for _, head in ipairs(form.heads) do
    if payload:len() >= head.size then
      values, at = add_struct(head, payload, 0, tree), head.size
      break
    end
  end
  if at > 0 or #form.heads == 0 then add_tail(form.tail, payload, at, values, tree) end
  return values
end

local function hex(value)
  if type(value) == "number" then return string.format("0x%x", value) end
  return "0x" .. value:tohex():gsub("^0+(%x)", "%1")
end

local function plural(count, what)
  local number = tostring(count)
  return " " .. number .. " " .. what .. (number == "1" and "" or "s")
end

local index_names = {
  DEVICE_GET_REGION_INFO = region_names,
  DEVICE_GET_REGION_IO_FDS = region_names,
  DEVICE_GET_IRQ_INFO = irq_names,
  DEVICE_SET_IRQS = irq_names,
}

-- The place of a message, and how much of it, in short.
local function place(command, values)
  local names = index_names[command]
  if values.region and values.offset then
    local name = region_names[values.region] or ("region " .. values.region)
    return " " .. name .. "+" .. hex(values.offset) .. plural(values.count or 0, "byte")
  elseif values.address then
    local size = values.size and " size " .. hex(values.size) or plural(values.count or 0, "byte")
    return " iova " .. hex(values.address) .. size
  elseif names and values.index then
    local text = " " .. (names[values.index] or tostring(values.index))
    if names == irq_names and values.count then return text .. plural(values.count, "vector") end
    return values.size and text .. " size " .. hex(values.size) or text
  end
  return ""
end

-- A recording has no addresses: the columns say who sent a message.
local function add_direction(pinfo)
  local direction = number_of(direction_field)
  if direction == "" then return end
  local is_to_client = direction == "1"
  pinfo.cols.src = is_to_client and "server" or "client"
  pinfo.cols.dst = is_to_client and "client" or "server"
end

function vfio_user.dissector(buffer, pinfo, root)
  pinfo.cols.protocol = "vfio-user"
  add_direction(pinfo)
  local tree = root:add(vfio_user, buffer())
  if buffer:len() < HEADER_SIZE then
    pinfo.cols.info = "truncated header"
    tree:add_proto_expert_info(damaged)
    return buffer:len()
  end
  local header = {
    id = buffer(AT_ID, 2):le_uint(),
    command = buffer(AT_COMMAND, 2):le_uint(),
    size = buffer(AT_SIZE, 4):le_uint(),
    flags = buffer(AT_FLAGS, 4):le_uint(),
    error = buffer(AT_ERROR, 4):le_uint(),
  }
  header.type = bit.band(header.flags, TYPE_MASK)
  local is_error = header.type == 1 and bit.band(header.flags, ERROR) ~= 0
  tree:add_le(h.id, buffer(AT_ID, 2))
  tree:add_le(h.command, buffer(AT_COMMAND, 2))
  tree:add_le(h.size, buffer(AT_SIZE, 4))
  local flags = tree:add_le(h.flags, buffer(AT_FLAGS, 4))
  flags:add(h.type, buffer(AT_FLAGS, 4), header.type)
  flags:add(h.no_reply, buffer(AT_FLAGS, 4), header.type == 0 and bit.band(header.flags, NO_REPLY) ~= 0)
  flags:add(h.is_error, buffer(AT_FLAGS, 4), is_error)
  tree:add_le(h.error, buffer(AT_ERROR, 4))
  link(header, pinfo, tree)

  local name = command_names[header.command] or ("command " .. header.command)
  local side = header.type == 0 and "request" or header.type == 1 and "reply" or "message"
  local info = "#" .. header.id .. " " .. name .. " " .. (is_error and "error reply" or side)
  local form = forms[header.command] and forms[header.command][side]
  if header.size ~= buffer:len() then
    tree:add_proto_expert_info(damaged)
  elseif is_error then
    tree:add_proto_expert_info(failed)
    info = info .. " " .. (errno_names[header.error] or header.error)
  elseif form and buffer:len() > HEADER_SIZE then
    info = info .. place(name, add_payload(form, buffer(HEADER_SIZE):tvb(), tree))
  end
  pinfo.cols.info = info
  return buffer:len()
end

function events.dissector(buffer, pinfo, root)
  pinfo.cols.protocol = "vfio-user event"
  local text = buffer():string(ENC_UTF_8)
  pinfo.cols.info = text
  root:add(events, buffer()):add(event_json, buffer())
  return buffer:len()
end
`;
