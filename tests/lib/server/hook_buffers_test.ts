import { assertEquals, assertStringIncludes } from "@std/assert";
import { EIO } from "../../../ffi/errno.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { access, ask, BytesRegion, serveNegotiated, sleep, TestDevice } from "./_client.ts";

/** Gives away what a hook was only lent, as a transfer to a Worker does. */
function giveAway({ buffer }: Uint8Array): void {
  structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
}

/** Its hooks give away the bytes that they get, before or after an await. */
class GenerousRegion extends BytesRegion {
  waits = false;

  override read(_offset: number, into: Uint8Array): void | Promise<void> {
    return this.#take(into);
  }

  override write(_offset: number, data: Uint8Array): void | Promise<void> {
    return this.#take(data);
  }

  #take(bytes: Uint8Array): void | Promise<void> {
    if (this.waits) return sleep(1).then(() => giveAway(bytes));
    giveAway(bytes);
  }
}

class GenerousDevice extends TestDevice {
  readonly generous = new GenerousRegion(1 << 20);
  override readonly regions = [this.generous, new BytesRegion(64)];
}

for (const waits of [false, true]) {
  const when = waits ? "after an await" : "at once";
  testFds(`a hook that gives its buffer away ${when} fails that access alone`, async () => {
    const device = new GenerousDevice();
    device.generous.waits = waits;
    using served = await serveNegotiated({ device });
    const { peer } = served;
    const good = async () => {
      const { errno, payload } = await ask(peer, Command.REGION_READ, access(0n, 1, 4));
      assertEquals([errno, ...payload.slice(16)], [0, 0, 1, 2, 3]);
    };
    for (const count of [4, 100_000]) {
      assertEquals((await ask(peer, Command.REGION_READ, access(0n, 0, count))).errno, EIO);
      await good();
      const data = Array.from({ length: count }, () => 1);
      assertEquals((await ask(peer, Command.REGION_WRITE, access(0n, 0, count, data))).errno, EIO);
      await good();
    }
    for (const [error] of served.errors) assertStringIncludes(`${error}`, "detached");
    assertEquals(served.errors.length, 4);
  });
}
