/**
 * The compiler's words on a capability or a message that is declared and then forgotten.
 */

import { checkEdited, missingFields, testCompiler } from "../../_edited_sources.ts";
import { assertEquals } from "@std/assert";

testCompiler("the compiler asks for what a capability or a message lacks", async () => {
  const text = await checkEdited([
    [
      "lib/wire/version.ts",
      "  maxMsgFds?: number;",
      "  maxMsgFds?: number;\n  brandNew?: boolean;",
    ],
    [
      "lib/wire/command.ts",
      "  MIG_DATA_WRITE: 18,",
      "  MIG_DATA_WRITE: 18,\n  NAMED: 19,\n  SENT: 20,\n  ASKED: 21,",
    ],
    [
      "lib/wire/messages.ts",
      "export interface Messages {",
      `export interface Messages {
        readonly SENT: MessageCodecs<void, void, "client">;
        readonly ASKED: MessageCodecs<void, void, "server">;`,
    ],
  ]);
  assertEquals(missingFields(text), [
    "lib/client/connect.ts brandNew", // what a client says of it
    "lib/client/device.ts ASKED", // what a client answers to a server
    "lib/server/handlers.ts SENT, ASKED", // what a server answers, or why it does not
    "lib/server/offer.ts brandNew", // what a server says of it
    "lib/wire/messages.ts NAMED", // a number without a message
    "lib/wire/messages.ts SENT, ASKED", // the codecs
    "lib/wire/version.ts brandNew", // key, reader and writer of a capability
  ], text);
});
