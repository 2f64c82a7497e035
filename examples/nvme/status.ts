/**
 * The status of an NVMe command.
 *
 * @module
 */

/** Status codes with their type in bits 10:8, and bit 14: a second try is of no use. */
export const Status = {
  SUCCESS: 0,
  OPCODE: 0x4001,
  FIELD: 0x4002,
  ID_CONFLICT: 0x4003,
  TRANSFER_ERROR: 0x4004,
  INTERNAL: 0x0006,
  ABORTED: 0x0007,
  NAMESPACE: 0x400b,
  SEQUENCE: 0x400c,
  PRP_OFFSET: 0x4013,
  RANGE: 0x4080,
  COMPLETION_QUEUE: 0x4100,
  QUEUE_ID: 0x4101,
  QUEUE_SIZE: 0x4102,
  EVENT_LIMIT: 0x4105,
  VECTOR: 0x4108,
  LOG_PAGE: 0x4109,
  QUEUE_DELETION: 0x410c,
  NOT_SAVEABLE: 0x410d,
  NOT_PER_NAMESPACE: 0x410f,
  WRITE_FAULT: 0x0280,
  READ_ERROR: 0x0281,
} as const;

/** The end of a command that fails. */
export class Failed extends Error {
  /**
   * @param status one of {@linkcode Status}
   * @param reason what is wrong, for a person
   */
  constructor(readonly status: number, reason: string) {
    super(`status 0x${status.toString(16)}: ${reason}`);
  }
}
