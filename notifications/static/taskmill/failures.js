/** What can go wrong while a task is watched. */

/** Asking again the same way does not help; the message is for people. */
export class Refused extends Error {}

/** The connection is gone, or was never there; another may succeed. */
export class Lost extends Error {}
