import { assertEquals, assertThrows } from "@std/assert";
import { OFFER_NAMES, offerOf, parseOffer } from "../../../cli/serve/offer.ts";
import { UsageError } from "../../../cli/serve/usage.ts";
import type { ServerOffer } from "../../../lib/server/offer.ts";
import { CAPABILITY_KEYS } from "../../../lib/wire/version.ts";

const GOOD: [text: string, offer: ServerOffer][] = [
  ["minor=0", { minor: 0 }],
  ["max_msg_fds=1", { maxMsgFds: 1 }],
  ["max_data_xfer_size=64K", { maxDataXferSize: 65536 }],
  ["max_dma_maps=0x10", { maxDmaMaps: 16 }],
  ["pgsizes=2M", { pgsizes: 0x20_0000n }],
  ["write_multiple=false", { writeMultiple: false }],
  ["twin_socket=true", { twinSocket: true }],
];
for (const [text, offer] of GOOD) {
  Deno.test(`parseOffer() reads ${text}`, () => assertEquals(parseOffer(text).offer, offer));
}

const BAD: [text: string, message: string][] = [
  ["max_msg_fds", '"max_msg_fds" is no offer; write it as max_msg_fds=1'],
  ["=1", '"=1" is no offer'],
  ["max_msg_fd=1", 'A server offers no "max_msg_fd"; did you mean "max_msg_fds"?'],
  ["constructor=1", 'A server offers no "constructor"'],
  ["max_msg_fds=many", '"many" is no number'],
  ["max_msg_fds=254", "Cannot offer maxMsgFds 254: it is an integer of 0 to 253"],
  ["max_dma_maps=99999999999999999999", "Cannot offer maxDmaMaps"],
  ["twin_socket=yes", '"yes" is neither true nor false'],
];
for (const [text, message] of BAD) {
  Deno.test(`parseOffer() says what is wrong with "${text}"`, () => {
    assertThrows(() => parseOffer(text), Error, message);
  });
}

Deno.test("an offer has a name for each capability but the one of older drafts", () => {
  const { migration: _, ...keys } = CAPABILITY_KEYS;
  assertEquals(OFFER_NAMES.toSorted(), ["minor", ...Object.values(keys)].toSorted());
});

Deno.test("parts of an offer are merged, and a name that is there twice is a mistake", () => {
  const parts = ["minor=1", "max_msg_fds=2"].map(parseOffer);
  assertEquals(offerOf(parts), { minor: 1, maxMsgFds: 2 });
  assertThrows(() => offerOf([...parts, ...parts]), UsageError, "the offer has minor twice");
});
