/**
 * The groups of checks of a server: a file of this folder each.
 *
 * @module
 */

import type { Check, CheckGroup } from "../check.ts";
import { connection } from "./connection.ts";
import { descriptors } from "./descriptors.ts";
import { dma } from "./dma.ts";
import { dmaMessages } from "./dma_messages.ts";
import { errors } from "./errors.ts";
import { features } from "./features.ts";
import { framing } from "./framing.ts";
import { info } from "./info.ts";
import { ioFdsChecks } from "./io_fds.ts";
import { irqs } from "./irqs.ts";
import { migration } from "./migration.ts";
import { negotiation } from "./negotiation.ts";
import { regionRead } from "./region_read.ts";
import { regionWrite } from "./region_write.ts";
import { resetChecks } from "./reset.ts";
import { twinSocket } from "./twin_socket.ts";

/** In the order in which they are done. */
export const SERVER_GROUPS: readonly CheckGroup[] = [
  negotiation,
  framing,
  errors,
  info,
  regionRead,
  regionWrite,
  dma,
  dmaMessages,
  irqs,
  ioFdsChecks,
  resetChecks,
  features,
  migration,
  descriptors,
  connection,
  twinSocket,
];

/** All checks, in the order of their groups. */
export const SERVER_CHECKS: readonly Check[] = SERVER_GROUPS.flatMap(({ checks }) => checks);
