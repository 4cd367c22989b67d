package replication

import "time"

// heldUpMax is how long one turn of a group's loop may take before that is logged: half the shortest election timeout. Meanwhile
// no heartbeat goes out and none is seen.
const heldUpMax = tickEvery * electionTicks / 2

// heldUp measures the steps of one turn of a loop.
type heldUp struct {
	begun, last time.Time
	steps       []any // name and duration, in turn
}

func (h *heldUp) begin() { h.begun = time.Now(); h.last, h.steps = h.begun, h.steps[:0] }

// step notes the end of a step.
func (h *heldUp) step(name string) {
	now := time.Now()
	if took := now.Sub(h.last); took > heldUpMax/4 {
		h.steps = append(h.steps, name, took)
	}
	h.last = now
}

// end logs a turn that took too long.
func (g *Group) heldUpEnd(h *heldUp) {
	if took := h.last.Sub(h.begun); took > heldUpMax {
		g.log.Warn("replication: the group's loop was held up", append([]any{"took", took}, h.steps...)...)
	}
}
