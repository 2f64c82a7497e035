import { assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import {
  ConnectionError,
  type ConnectionErrorKind,
  DecodeError,
} from "../../../lib/base/errors.ts";
import { lookupRegister, UnknownNameError } from "../../../lib/registers/lookup.ts";
import { loadRegisterMap } from "../../../lib/registers/load.ts";
import { messages } from "../../../lib/wire/messages.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";

testFds("a ConnectionError says by its kind why there is no connection", async () => {
  const ends: [ConnectionErrorKind, (peer: RawPeer, close: () => void) => void][] = [
    ["left", (peer) => peer.close()],
    ["cut", (peer) => {
      peer.send(new Uint8Array(5));
      peer.close();
    }],
    ["closed", (_, close) => close()],
  ];
  for (const [kind, end] of ends) {
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release());
    await peer.acceptVersion();
    using device = await connecting;
    const info = device.info();
    await peer.expect(4);
    end(peer, () => device.close());
    const error = await assertRejects(() => info, ConnectionError);
    assertEquals(error.kind, kind);
    // What is asked later fails for the same reason.
    const later = await assertRejects(() => device.irqInfo(0), ConnectionError);
    assertEquals(later.kind, kind);
    peer.close();
  }
  const refused = await assertRejects(() => connect("/nonexistent/vfu.sock"), ConnectionError);
  assertEquals(refused.kind, "refused");
});

Deno.test("a DecodeError has its reason apart from what could not be decoded", () => {
  const error = assertThrows(
    () => messages.REGION_READ.request.decode(new Uint8Array(2)),
    DecodeError,
    "Cannot decode REGION_READ request: 2 bytes came, 16 are needed",
  );
  assertEquals([error.reason, error.name], ["2 bytes came, 16 are needed", "ProtocolError"]);
});

Deno.test("an UnknownNameError says what has no such name, and quotes it", async () => {
  const maps = [await loadRegisterMap("nvme")];
  const cases: [text: string, what: UnknownNameError["what"]][] = [
    ["nvmf.CC.EN", "map"],
    ["nvme.CX", "register"],
    ["CC.EM", "field"],
    ["a-b", "register"],
  ];
  for (const [text, what] of cases) {
    assertEquals(assertThrows(() => lookupRegister(maps, text), UnknownNameError).what, what);
  }
  const error = assertThrows(() => lookupRegister(maps, "CC[0]", "CC[${tail}]"), RangeError);
  assertEquals(error.message, '"CC[${tail}]" has an index, but CC is a single register');
  assertInstanceOf(error, RangeError);
});
