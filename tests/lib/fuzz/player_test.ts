/** The bytes of a connection that a player sends. */

import { assertEquals } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Descriptors } from "../../../lib/fuzz/descriptors.ts";
import { labelOf } from "../../../lib/fuzz/label.ts";
import { Player } from "../../../lib/fuzz/player.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";

testFds("a message whose pieces end behind it is sent whole", async () => {
  const bytes = encodeMessage({ messageId: 1, command: Command.DEVICE_RESET });
  const [ours, theirs] = UnixSocket.pair();
  using _theirs = theirs;
  using descriptors = new Descriptors();
  const { signal } = new AbortController();
  const player = new Player({ timeoutMs: () => 1000, signal, descriptors });
  const label = labelOf(Command.DEVICE_RESET);
  const message = {
    bytes,
    fds: [],
    cuts: [4, 242, 300],
    reply: "one",
    isLast: true,
    label,
  } as const;
  await player.play(ours, { messages: [message], answers: [], window: 4 });
  const room = new IoBuffer(100);
  let length = 0;
  for (let count; (count = theirs.receive(room, length, 100 - length)) > 0;) length += count;
  assertEquals(room.bytes.subarray(0, length), bytes);
});
