/** Each deliberate fault of a server is named by a check; the same checks pass without it. */

import { assert, assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { type CheckResult, planOf, runChecks } from "../../../lib/conformance/run.ts";
import { SERVER_CHECKS, SERVER_GROUPS } from "../../../lib/conformance/server/groups.ts";
import { pack } from "../../../lib/conformance/pack.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { type Altered, type Mutant, MutantTarget } from "./_mutant.ts";

libc(); // opened once for all tests

const isError = ({ flags }: Altered) => (flags & 0x20) !== 0;
/** Alters the payload of replies to a command that are none of an error. */
const of = (command: number, act: (message: Altered, view: DataView) => void) => (m: Altered) => {
  if (m.command !== command || isError(m)) return;
  m.payload = m.payload.slice();
  act(m, new DataView(m.payload.buffer));
};
const json = (m: Altered, from: string | RegExp, to: string) => {
  const text = new TextDecoder().decode(m.payload.subarray(4)).replace(from, to);
  m.payload = new Uint8Array([...m.payload.subarray(0, 4), ...new TextEncoder().encode(text)]);
};
const {
  VERSION,
  DEVICE_GET_INFO: INFO,
  DEVICE_GET_REGION_INFO: REGION,
  DEVICE_GET_REGION_IO_FDS: IO_FDS,
  DEVICE_GET_IRQ_INFO: IRQ,
  DEVICE_SET_IRQS: SET_IRQS,
  REGION_READ: READ,
  REGION_WRITE: WRITE,
  REGION_WRITE_MULTI: MULTI,
  DMA_MAP: MAP,
  DMA_UNMAP: UNMAP,
  DEVICE_FEATURE: FEATURE,
  MIG_DATA_READ: MIG_READ,
  DEVICE_RESET: RESET,
} = Command;
const NOTHING = new Uint8Array();
/** True of a write to a register of the demo device. */
const isRegister = ({ command, payload }: Altered, at: number) =>
  command === WRITE && payload[0] === at && payload[1] === 0 && payload[8] === 0;
/** True of a write of the length of a copy. */
const isLength = (m: Altered) => isRegister(m, 0x50);

const MUTANTS: readonly Mutant[] = [
  { name: "ids count up", check: "framing/1", reply: (m) => m.messageId ^= 1 },
  { name: "replies name no command", check: "framing/4", reply: (m) => m.command = 0 },
  { name: "replies are typed as commands", check: "framing/3", reply: (m) => m.flags &= ~1 },
  { name: "errors have no errno", check: "errors/17", reply: (m) => m.error = 0 },
  {
    name: "errors have a payload",
    check: "errors/7",
    reply: (m) => isError(m) && (m.payload = new Uint8Array(8)),
  },
  { name: "errors are no errors", check: "errors/41", reply: (m) => m.flags &= ~0x20 },
  {
    name: "success has an errno",
    check: "framing/5",
    reply: (m) => isError(m) || (m.error = 5),
  },
  { name: "a reserved flag is set", check: "framing/6", reply: (m) => m.flags |= 0x80 },
  {
    name: "the minor version is above the client's",
    check: "negotiation/3",
    reply: of(VERSION, (_, view) => view.setUint16(2, 9, true)),
  },
  {
    name: "the major version is another",
    check: "negotiation/2",
    reply: of(VERSION, (_, view) => view.setUint16(0, view.getUint8(2), true)),
  },
  {
    name: "the JSON has no NUL",
    check: "negotiation/6",
    reply: of(VERSION, (m) => m.payload = m.payload.subarray(0, -1)),
  },
  {
    name: "the JSON ends early",
    check: "negotiation/7",
    reply: of(VERSION, (m) => json(m, /}+\0/, "\0")),
  },
  {
    name: "a capability comes unasked",
    check: "negotiation/8",
    reply: of(VERSION, (m) => json(m, '{"max_msg_fds"', '{"pgsizes":4096,"max_msg_fds"')),
  },
  {
    name: "a limit is text",
    check: "negotiation/25",
    reply: of(VERSION, (m) => json(m, '"max_msg_fds":16', '"max_msg_fds":"a"')),
  },
  {
    name: "argsz is 0",
    check: "info/2",
    reply: of(INFO, (_, view) => view.setUint32(0, 0, true)),
  },
  {
    name: "any argsz will do",
    check: "info/3",
    request: (m) => m.command === INFO && m.payload.set([16], 0),
  },
  {
    name: "a flag of the device does not exist",
    check: "info/30",
    reply: of(INFO, (_, view) => view.setUint32(4, view.getUint32(4, true) | 0x100, true)),
  },
  {
    name: "argsz names more bytes than there are",
    check: "info/31",
    reply: of(INFO, (_, view) => view.setUint32(0, 20, true)),
  },
  {
    name: "a client that takes no descriptors is sent some",
    check: "info/32",
    request: (m) => m.command === VERSION && json(m, '"max_msg_fds":0', '"max_msg_fds":8'),
  },
  {
    name: "each region is bar0",
    check: "info/10",
    reply: of(REGION, (_, view) => view.setUint32(8, 0, true)),
  },
  {
    name: "the descriptor of a region is forgotten",
    check: "info/22",
    reply: of(REGION, (m) => m.fds = []),
  },
  {
    name: "a region has a flag too many",
    check: "info/27",
    reply: of(REGION, (_, view) => view.setUint32(4, view.getUint32(4, true) | 0x10, true)),
  },
  {
    name: "capabilities go in a circle",
    check: "info/20",
    reply: of(REGION, (m, view) => m.payload.length > 36 && view.setUint32(36, 32, true)),
  },
  {
    name: "an area leaves its region",
    check: "info/24",
    reply: of(REGION, (m, view) => m.payload.length > 56 && view.setUint32(56, 1 << 20, true)),
  },
  {
    name: "an absent region is there",
    check: "info/11",
    request: (m) => m.command === REGION && m.payload.set([m.payload[8]! & 7], 8),
  },
  {
    name: "each IRQ index is intx",
    check: "info/41",
    reply: of(IRQ, (_, view) => view.setUint32(8, 0, true)),
  },
  {
    name: "a flag of an IRQ index does not exist",
    check: "info/50",
    reply: of(IRQ, (_, view) => view.setUint32(4, view.getUint32(4, true) | 0x10, true)),
  },
  {
    name: "argsz of an IRQ index is 0",
    check: "info/51",
    reply: of(IRQ, (_, view) => view.setUint32(0, 0, true)),
  },
  {
    name: "the last byte of a read is missing",
    check: "region_read/1",
    reply: of(READ, (m) => m.payload = m.payload.subarray(0, -1)),
  },
  {
    name: "reads say offset 0",
    check: "region_read/2",
    reply: of(READ, (_, view) => view.setBigUint64(0, 0n, true)),
  },
  {
    name: "reads wrap around in the region",
    check: "region_read/4",
    request: (m) => m.command === READ && m.payload.fill(0, 1, 8),
  },
  {
    name: "bytes are swapped",
    check: "region_read/19",
    reply: of(READ, (m) => m.payload.subarray(16).reverse()),
  },
  {
    name: "writes are forgotten",
    check: "region_write/1",
    request: (m) => {
      if (m.command !== WRITE) return;
      m.payload = m.payload.slice(0, 16).fill(0, 12); // a count of 0, and no data
      m.size = 32;
    },
  },
  {
    name: "the reply to a write has data",
    check: "region_write/2",
    reply: of(WRITE, (m) => m.payload = new Uint8Array([...m.payload, 0])),
  },
  {
    name: "writes are counted wrongly",
    check: "region_write/31",
    reply: of(MULTI, (_, view) => view.setBigUint64(0, 7n, true)),
  },
  {
    name: "no_reply is ignored",
    check: "framing/27",
    request: (m) => m.flags &= ~0x10,
  },
  {
    name: "the payload of an unknown command is read as a header",
    check: "framing/11",
    request: (m) => m.command > 100 && (m.size = 16),
  },
  {
    name: "overlaps are accepted",
    check: "dma/10",
    reply: (m) => m.command === MAP && m.error === 17 && (m.flags &= ~0x20, m.error = 0),
  },
  {
    name: "the reply to a map has a payload",
    check: "dma/7",
    reply: of(MAP, (m) => m.payload = new Uint8Array(32)),
  },
  {
    name: "the reply to an unmap has none",
    check: "dma/40",
    reply: of(UNMAP, (m) => m.payload = NOTHING),
  },
  {
    name: "a part of a map is unmapped",
    check: "dma/43",
    reply: (m) => m.command === UNMAP && (m.flags &= ~0x20, m.error = 0),
  },
  {
    name: "masking does nothing",
    check: "irqs/33",
    request: (m) => m.command === SET_IRQS && m.payload[4]! & 8 && m.payload.set([0x11], 4),
  },
  {
    name: "a false boolean fires",
    check: "irqs/5",
    request: (m) => m.command === SET_IRQS && m.payload[4] === 0x22 && m.payload.set([0x21], 4),
  },
  {
    name: "a false boolean masks",
    check: "irqs/43",
    request: (m) => m.command === SET_IRQS && m.payload[4] === 0x0a && m.payload.set([1], 20),
  },
  {
    name: "a teardown is for the first vector alone",
    check: "irqs/45",
    request: (m) => {
      const isTeardown = m.command === SET_IRQS && m.payload[4] === 0x21 && m.payload[16] === 0;
      if (isTeardown) m.payload.set([0x24], 4), m.payload.set([1], 16);
    },
  },
  {
    name: "an eventfd that unmasks masks",
    check: "irqs/48",
    request: (m) => m.command === SET_IRQS && m.payload[4] === 0x14 && m.payload.set([0x0c], 4),
  },
  {
    name: "an interrupt never comes",
    check: "irqs/3",
    request: (m) => m.command === SET_IRQS && m.payload[4] === 0x21 && m.payload.set([0x10], 16),
    reply: (m) => m.command === SET_IRQS && (m.flags &= ~0x20, m.error = 0),
  },
  {
    name: "a descriptor's index is none",
    check: "io_fds/6",
    reply: of(IO_FDS, (m, view) => m.payload.length > 32 && view.setUint32(32, 9, true)),
  },
  {
    name: "a reset fails",
    check: "reset/1",
    reply: (m) => m.command === RESET && (m.flags |= 0x20, m.error = 5),
  },
  {
    name: "flags of a feature are lost",
    check: "features/8",
    reply: of(FEATURE, (_, view) => view.setUint32(4, 0, true)),
  },
  {
    name: "the state is always RUNNING",
    check: "migration/2",
    reply: of(FEATURE, (m) => m.payload.length === 16 && m.payload[4] === 2 && (m.payload[8] = 2)),
  },
  {
    name: "migration data say a wrong size",
    check: "migration/30",
    reply: of(MIG_READ, (_, view) => view.setUint32(4, view.getUint32(4, true) + 1, true)),
  },
  {
    name: "memory is asked for beyond the client's limit",
    check: "dma_messages/4",
    request: (m) => m.command === VERSION && json(m, ":1024", ":65536"),
  },
  {
    name: "memory is read in the wrong place",
    check: "dma_messages/1",
    reply: (m) => m.command === Command.DMA_READ && m.payload.set([8], 1),
  },
  {
    name: "a copy is a byte short",
    check: "dma_messages/2",
    request: (m) => isLength(m) && m.payload[16]!--,
  },
  {
    name: "a copy goes on for a byte",
    check: "dma_messages/19",
    request: (m) => isLength(m) && m.payload[16]!++,
  },
  {
    name: "a copy is written outside",
    check: "dma_messages/18",
    request: (m) => isRegister(m, 0x48) && (m.payload[17]! ^= 0x10),
  },
  ...["dma_messages/10", "dma_messages/21", "dma_messages/22"].map((check): Mutant => {
    const unmaps = new Set<number>();
    return {
      name: `an unmap takes nothing away, in ${check}`,
      check,
      request(m) {
        if (m.command !== UNMAP) return;
        unmaps.add(m.messageId);
        m.command = INFO; // which changes nothing
        m.payload = pack("u32 u32 u32 u32", 16, 0, 0, 0);
        m.size = 32;
      },
      reply(m) {
        if (unmaps.delete(m.messageId)) [m.command, m.payload] = [UNMAP, new Uint8Array(24)];
      },
    };
  }),
  {
    name: "shared memory to be read is written",
    check: "dma_messages/23",
    request: (m) => m.command === MAP && (m.payload[4]! |= 3),
  },
  {
    name: "shared memory to be written is read",
    check: "dma_messages/24",
    request: (m) => m.command === MAP && (m.payload[4]! |= 3),
  },
  {
    name: "memory by message that may be read is written",
    check: "dma_messages/7",
    request: (m) => m.command === MAP && (m.payload[4]! |= 3),
  },
  {
    name: "fd_index is none",
    check: "twin_socket/2",
    reply: of(VERSION, (m) => json(m, '"fd_index":0', '"fd_index":7')),
  },
  {
    name: "a twin socket comes unasked",
    check: "twin_socket/5",
    reply: of(
      VERSION,
      (m) => json(m, '{"max_msg_fds"', '{"twin_socket":{"supported":true},"max_msg_fds"'),
    ),
  },
];

/**
 * The longest waits: for a server that may be silent, and for one of which an answer will come.
 */
const FAULTY_MS = 10_000;
const SOUND_MS = 60_000;

/** Does one check, or others, after the questions for what the server has. */
async function run(
  mutant: Mutant,
  timeoutMs: number,
  checks: readonly string[] = [mutant.check],
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  {
    await using target = new MutantTarget(mutant);
    const plans = planOf(SERVER_GROUPS, ({ id }) => checks.some((each) => id === `server/${each}`));
    const count = plans.reduce((sum, plan) => sum + plan.checks.length, 0);
    assertEquals(count, checks.length, `no check ${checks}`);
    const options = {
      timeoutMs,
      signal: new AbortController().signal,
      isDestructive: true,
      isFresh: false,
    };
    for await (const result of runChecks(target, plans, options)) results.push(result);
  }
  await idle();
  return results;
}

for (const mutant of MUTANTS) {
  testFds(`a server whose fault is that ${mutant.name} fails ${mutant.check}`, async () => {
    const [result] = await run(mutant, FAULTY_MS);
    assertEquals(result?.verdict, "failed", result?.reason);
    assert(result?.expected && result.came, "what was expected, and what came");
    assert(result.messages.length > 0, "what was sent");
    const { request: _, reply: __, ...sound } = mutant;
    const [healthy] = await run(sound, SOUND_MS);
    assertEquals([healthy?.verdict, healthy?.came], ["passed", undefined]);
  });
}

testFds("limits of a server that are fractions end no run", async () => {
  const mutant: Mutant = {
    name: "limits are fractions",
    check: "negotiation/1",
    reply: of(VERSION, (m) => {
      json(m, /"max_data_xfer_size":\d+/, '"max_data_xfer_size":4096.5');
      json(m, /"max_msg_fds":\d+/, '"max_msg_fds":1.5');
    }),
  };
  const checks = ["region_read/12", "region_write/14", "region_write/15", "irqs/31"];
  const results = await run(mutant, SOUND_MS, checks);
  assertEquals(results.map(({ verdict }) => verdict), checks.map(() => "passed"));
});

Deno.test("checks know all of their mutants", () => {
  assertEquals(
    MUTANTS.filter(({ check }) => !SERVER_CHECKS.some(({ id }) => id.endsWith(`/${check}`))),
    [],
  );
  assert(MUTANTS.length >= 25);
});
