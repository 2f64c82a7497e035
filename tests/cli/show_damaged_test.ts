/** `vfu show` of files that are damaged at random: what it can't read, it says so of. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { temporaryFile } from "../lib/record/_events.ts";
import { GOLDEN_RECORDINGS, writeGolden } from "../lib/record/_golden.ts";
import { Random } from "../../lib/base/random.ts";
import { runHere } from "./_cli.ts";

/** Numbers that lengths lie with. */
const LIES = [0, 1, 11, 13, 0x7fff, 0xffff, 66 << 20, 0x7fff_fffc, 0xffff_fffc, 0xffff_ffff];

/** Does damage of one kind somewhere in a file. */
const DAMAGES: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  (bytes, random) => bytes.subarray(0, random.below(bytes.length)),
  (bytes, random) => {
    bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  },
  (bytes, random) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    view.setUint32(random.below(bytes.length / 4 - 1) * 4, random.pick(LIES), true);
    return bytes;
  },
  (bytes, random) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    view.setUint16(random.below(bytes.length / 2 - 1) * 2, random.pick(LIES) & 0xffff, true);
    return bytes;
  },
  (bytes, random) => {
    const [from, to] = [random.below(bytes.length), random.below(bytes.length)];
    bytes.copyWithin(to, from, from + random.below(200));
    return bytes;
  },
  (bytes, random) => {
    const at = random.below(bytes.length);
    const length = random.below(64);
    const rest = bytes.slice(at + length);
    const shorter = bytes.subarray(0, at + rest.length);
    shorter.set(rest, at);
    return shorter;
  },
];

const WAYS: readonly (readonly string[])[] = [
  ["--map", "nvme", "--map", "pci"],
  ["--stats", "--map", "pci"],
  ["--stats", "--json"],
  ["--json", "--map", "nvme"],
  ["--no-fold", "--filter", "region == bar0 && value != 0 || fds > 0 || error == EINVAL"],
];

/** Words about what was read, whole or not: no event was chosen, or some packets are no events. */
const REMARK = /^(?:|vfu: No events match|vfu: \d+ packets? of other programs, .* left out)$/;

const RUNS = Number(Deno.env.get("VFU_SHOW_RUNS") ?? 100);

Deno.test("vfu show of a damaged file shows what it can, and names the damage", async () => {
  using file = temporaryFile();
  const originals = GOLDEN_RECORDINGS.map((name) => {
    writeGolden(name, file.path);
    return Deno.readFileSync(file.path);
  });
  const ends = new Set<string>();
  for (let seed = 1; seed <= RUNS; seed++) {
    const random = new Random(seed);
    let bytes: Uint8Array = random.pick(originals).slice(0, random.oneIn(2) ? undefined : 8000);
    for (let i = random.below(3); i >= 0; i--) bytes = random.pick(DAMAGES)(bytes, random);
    Deno.writeFileSync(file.path, bytes);
    const { code, out, err } = await runHere(["show", file.path, ...random.pick(WAYS)]);
    const lines = err.split("\n").filter((line) => !REMARK.test(line));
    const where = `seed ${seed}: ${err}`;
    assert(lines.length <= 1, where);
    if (code === 0) {
      if (lines.length > 0) {
        assertMatch(err, / ends in the middle of an event: its last \d+ bytes?/, where);
      }
    } else {
      assertEquals(code, 1, where);
      assert(err.startsWith(`vfu: Cannot read ${file.path}: `), where);
      assert(!/undefined|NaN|\[object|TypeError|RangeError/.test(err), where);
    }
    assert(
      !/undefined|NaN|\[object/.test(out),
      `${where}${out.match(/.*(?:undefined|NaN|\[object).*/)}`,
    );
    ends.add(code === 0 ? (lines.length === 0 ? "whole" : "cut") : "damaged");
  }
  assertEquals([...ends].sort(), ["cut", "damaged", "whole"]);
});
