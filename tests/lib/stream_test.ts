import { assert, assertThrows } from "@std/assert";
import { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../../lib/errors.ts";
import { MessageStream } from "../../lib/stream.ts";
import { Command } from "../../lib/wire/command.ts";
import { testFds } from "../_fds.ts";

testFds(
  "what is queued for a peer that does not read is bounded, however little is queued at a time",
  () => {
    const [socket, peer] = UnixSocket.pair();
    const stream = new MessageStream(socket, "client", { maxMessageSize: 4096, maxFds: 1 });
    const before = Deno.memoryUsage().rss;
    let count = 0;
    assertThrows(
      () => {
        for (; count < 1_000_000; count++) {
          stream.write(1, Command.DEVICE_RESET, 1, 0);
          stream.flush();
        }
      },
      ConnectionError,
      "The client does not read",
    );
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 256 << 20, `memory grew by ${grown} bytes with ${count} messages`);
    stream.close();
    peer.close();
  },
);
