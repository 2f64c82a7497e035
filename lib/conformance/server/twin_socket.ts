/** Checks of the twin socket. @module */

import { UnixSocket } from "../../../ffi/socket.ts";
import { type CheckGroup, group } from "../check.ts";
import { capabilitiesOf } from "../learn.ts";
import type { CameMessage } from "../raw_peer.ts";
import { deviceInfo, dmaMap, dmaUnmap, OUR_CAPABILITIES } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "VFIO_USER_VERSION";
const RAW = { isRaw: true } as const;

/** The twin_socket of a reply, as its JSON has it. */
function twinOf({ payload }: CameMessage): { supported?: unknown; fd_index?: unknown } {
  const twin = capabilitiesOf(payload)["twin_socket"];
  return typeof twin === "object" && twin !== null ? twin : {};
}

/** Negotiates a twin socket. */
async function propose(t: Trial): Promise<CameMessage> {
  const capabilities = { ...OUR_CAPABILITIES, twin_socket: { supported: true } };
  const reply = await t.negotiate(t.peer, capabilities);
  t.need(twinOf(reply).supported === true, "the server has no twin socket");
  return reply;
}

/** The checks of the twin socket. */
export const twinSocket: CheckGroup = group("twin_socket", "Twin socket", [
  [1, "MUST", SECTION, "A twin socket that is supported comes with a descriptor.", async (t) => {
    const reply = await propose(t);
    t.expect(reply.fds.length >= 1, "a descriptor", reply);
  }, RAW],
  [2, "MUST", SECTION, "fd_index is the place of the socket among the descriptors.", async (t) => {
    const reply = await propose(t);
    const { fd_index: index } = twinOf(reply);
    const isThere = typeof index === "number" && index >= 0 && index < reply.fds.length;
    t.expect(isThere, `an index below ${reply.fds.length}`, reply);
  }, RAW],
  [3, "MUST", SECTION, "The descriptor is a UNIX stream socket.", async (t) => {
    const reply = await propose(t);
    const fd = reply.fds[Number(twinOf(reply).fd_index)];
    t.expect(fd !== undefined && fd.stat().isSocket, "a socket", reply);
    let isStream = true;
    try {
      UnixSocket.adopt(fd!.duplicate().release()).close();
    } catch {
      isStream = false;
    }
    t.expect(isStream, "a UNIX stream socket", "another kind of socket");
  }, RAW],
  [4, "MUST", SECTION, "Requests of the client are answered on the main socket.", async (t) => {
    await propose(t);
    await t.accepts(deviceInfo());
    await t.accepts(dmaMap(0x4000_0000n, 4096n));
    await t.accepts(dmaUnmap(0x4000_0000n, 4096n));
  }, RAW],
  [5, "MUST", SECTION, "A client that does not propose it gets no twin socket.", async (t) => {
    const reply = await t.negotiate();
    const isNone = twinOf(reply).supported !== true && reply.fds.length === 0;
    t.expect(isNone, "no twin socket and no descriptor", reply);
  }, RAW],
  [6, "MUST", SECTION, "A client that declines it gets no twin socket.", async (t) => {
    const capabilities = { ...OUR_CAPABILITIES, twin_socket: { supported: false } };
    const reply = await t.negotiate(t.peer, capabilities);
    const isNone = twinOf(reply).supported !== true && reply.fds.length === 0;
    t.expect(isNone, "no twin socket and no descriptor", reply);
  }, RAW],
  [7, "SHOULD", SECTION, "A client that takes no descriptors gets no twin socket.", async (t) => {
    const capabilities = { max_msg_fds: 0, twin_socket: { supported: true } };
    const reply = await t.negotiate(t.peer, capabilities);
    const isNone = twinOf(reply).supported !== true && reply.fds.length === 0;
    t.expect(isNone, "no twin socket and no descriptor", reply);
  }, RAW],
  [
    8,
    "SHOULD",
    SECTION,
    "The server's end of the twin socket ends with the connection.",
    async (t) => {
      const reply = await propose(t);
      const fd = reply.fds[Number(twinOf(reply).fd_index)]!;
      const twin = t.keep(UnixSocket.adopt(fd.duplicate().release()));
      t.peer[Symbol.dispose]();
      await t.until(
        () => twin.isHungUp(),
        "a twin socket that has ended",
        () => "one that is open",
      );
    },
    { isRaw: true, mayEnd: true },
  ],
]);
