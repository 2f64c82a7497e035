/**
 * Ends of a check that is not kept, or can't be tried.
 *
 * @module
 */

/** The peer has done something else than the rule says. */
export class Deviation extends Error {
  /** "Deviation". */
  override readonly name = "Deviation";

  /**
   * Makes one.
   *
   * @param expected what the rule asks for
   * @param came what happened instead
   */
  constructor(readonly expected: string, readonly came: string) {
    super(`Expected ${expected}; came ${came}`);
  }
}

/** The peer has done what the rule says to refuse. */
export class NotRefused extends Deviation {}

/** The peer has closed the connection. */
export class ConnectionEnded extends Deviation {}

/** The peer says nothing in time. */
export class Silence extends Deviation {}

/** The peer does not offer the subject of the rule. */
export class NotApplicable extends Error {
  /** "NotApplicable". */
  override readonly name = "NotApplicable";
}

/** The device does not copy memory by the steps that were given for that. */
export class NoCopy extends Error {
  /** "NoCopy". */
  override readonly name = "NoCopy";
}
