/**
 * `examples/nvme.ts` under random traffic: queues of all sizes, full and empty, wrong commands and
 * wrong doorbells among right ones.
 */

import { assert, assertEquals } from "@std/assert";
import nvme from "../../examples/nvme.ts";
import { Random } from "../../lib/base/random.ts";
import { testFds } from "../_fds.ts";
import { serveDefined } from "../lib/define/_served.ts";
import { type CommandParts, DATA, NvmeDriver } from "./_nvme_driver.ts";

const BLOCKS = 8; // of one command, at most
const PLACES = 32; // on the disk, of so many blocks each: a place has one command at a time
const COMMANDS = 600;

/** A command under way. */
interface Pending {
  readonly place: number;
  readonly slot: number;
  readonly status: number;
  /** The bytes that the place holds afterwards, or the bytes that were read. */
  readonly model?: Uint8Array;
  readonly isRead?: boolean;
}

for (const seed of [1, 2, 3, 4]) {
  testFds(`nvme.ts does what a driver asks for, whatever the order (seed ${seed})`, async () => {
    const random = new Random(seed);
    const pick = (count: number) => random.below(count);
    await using pair = await serveDefined(nvme.create({
      size: PLACES * BLOCKS * 512,
      doorbells: seed % 2 === 0 ? "message" : "mapped",
    }));
    const driver = await NvmeDriver.start(pair.device, 2 + pick(30));
    // Two completion queues for three submission queues, some of them tiny.
    await driver.createQueues(1, 2 + pick(6), [1, 2], [2 + pick(8), 2 + pick(40)]);
    await driver.createQueues(3, 2 + pick(60), [3], [2 + pick(60)]);
    const disk = Array.from({ length: PLACES }, () => new Uint8Array(BLOCKS * 512));
    const free = new Set(disk.keys());
    const slots = new Set(Array.from({ length: 24 }, (_, i) => i));
    const pending = new Map<string, Pending>();
    const take = (from: Set<number>) => {
      const chosen = [...from][pick(from.size)]!;
      from.delete(chosen);
      return chosen;
    };

    const submit = (queue: number) => {
      const [place, slot] = [take(free), take(slots)];
      const [first, count] = [pick(BLOCKS), 1 + pick(BLOCKS)];
      const blocks = Math.min(count, BLOCKS - first);
      const address = DATA + slot * 0x4000 + pick(1024) * 4;
      const length = blocks * 512;
      const data = driver.bytes(address, length);
      const io: CommandParts = {
        opcode: 2,
        namespace: 1,
        prp1: address,
        prp2: (address + 0xfff) & ~0xfff,
        cdw10: place * BLOCKS + first,
        cdw12: blocks - 1,
      };
      const isLong = (address & 0xfff) + length > 8192; // more than two pages: not tried here
      const kind = isLong ? 5 : pick(8);
      const part = disk[place]!.subarray(first * 512, first * 512 + length);
      const put = (command: CommandParts, rest: Omit<Pending, "place" | "slot">) =>
        pending.set(`${queue} ${driver.put(queue, command)}`, { place, slot, ...rest });
      if (kind < 2) {
        data.set(random.bytes(length));
        part.set(data);
        put({ ...io, opcode: 1 }, { status: 0 });
      } else if (kind < 4) put(io, { status: 0, model: part.slice(), isRead: true });
      else if (kind === 4) {
        part.fill(0);
        put({ ...io, opcode: 8 }, { status: 0 });
      } else if (kind === 5) put({ opcode: 0, namespace: 1 }, { status: 0 });
      else if (kind === 6) put({ ...io, namespace: 3 }, { status: 0x400b });
      else put({ ...io, flags: 0x40 }, { status: 0x4002 });
      const key = [...pending.keys()].at(-1)!;
      addresses.set(key, address);
    };
    const addresses = new Map<string, number>();

    const collect = () => {
      let count = 0;
      for (let each = driver.take(); each !== undefined; each = driver.take()) {
        const key = `${each.queue} ${each.id}`;
        const { place, slot, status, model } = pending.get(key)!;
        assertEquals(each.status, status, key);
        if (model !== undefined) {
          assertEquals(driver.bytes(addresses.get(key)!, model.length), model, key);
        }
        pending.delete(key);
        free.add(place);
        slots.add(slot);
        count++;
      }
      return count;
    };

    let [submitted, completed, idle] = [0, 0, 0];
    while (completed < COMMANDS) {
      for (const queue of [1, 2, 3]) {
        for (let count = pick(6); count > 0 && submitted < COMMANDS; count--) {
          if (driver.room(queue) === 0 || free.size === 0 || slots.size === 0) break;
          submit(queue);
          submitted++;
        }
        if (pick(8) === 0) await driver.ring(queue, 100 + pick(70_000)); // makes no sense
        await driver.ring(queue);
      }
      if (pick(3) > 0) await new Promise((resolve) => setTimeout(resolve, pick(4)));
      const count = collect();
      completed += count;
      if (pick(4) > 0 || count === 0) await driver.acknowledge();
      idle = count > 0 ? 0 : idle + 1;
      assert(idle < 2000, `${completed} of ${submitted} have ended`);
    }
    assertEquals([pending.size, submitted], [0, COMMANDS]);
    await driver.pass(0, { opcode: 6, prp1: DATA, cdw10: 1 });
    assertEquals(pair.errors, []);
  });
}
