// Package appendload appends to logs as fast as it may, or at a given rate, measures
// how long that takes, and reads everything back: what was acknowledged must be in its log, once,
// in order, with its bytes and at its LSN, and what was refused must not be.
//
// In the closed loop an append that is acknowledged makes room for the next: the
// latencies are those of a service with so many in flight. In the open loop appends are due at a
// fixed rate, whatever the service does, and a latency counts from the moment the append was due, not from
// when it was sent. So a service that stands still for a second shows in as many latencies
// as appends were due in that second (no coordinated omission).
package appendload
