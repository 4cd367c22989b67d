package hotlog

import (
	"testing"
	"time"
)

// Each reason to begin, and to wait, by hand.
func TestPaceStep(t *testing.T) {
	const us = time.Microsecond
	p := pace{sync: 160 * us, cohort: 8}
	for _, tt := range []struct {
		in       paceInput
		want     paceDecision
		patience time.Duration
	}{
		{paceInput{pending: 0, ended: 5 * us, quiet: 5 * us}, paceWait, 15 * us},
		{paceInput{pending: 0, ended: 20 * us, quiet: 20 * us}, pacePark, 0},
		{paceInput{pending: 8, ended: 5 * us, quiet: 1 * us}, paceAll, 0},
		{paceInput{pending: 1, ended: 160 * us, quiet: 0}, paceIdle, 0},
		{paceInput{pending: 3, ended: 20 * us, quiet: 10 * us}, paceWait, 30 * us},
		{paceInput{pending: 3, ended: 60 * us, quiet: 40 * us}, paceQuiet, 0},
		{paceInput{pending: 3, ended: 150 * us, quiet: 10 * us}, paceWait, 10 * us},
		{paceInput{pending: 3, full: true, ended: 5 * us, quiet: 1 * us}, paceFull, 0},
	} {
		if got, patience := p.step(tt.in); got != tt.want || patience != tt.patience {
			t.Errorf("%+v: %s, %v; want %s, %v", tt.in, paceNames[got], patience, paceNames[tt.want], tt.patience)
		}
	}
	if d, _ := (pace{}).step(paceInput{pending: 1}); d != paceIdle {
		t.Errorf("the first entry ever: %s", paceNames[d])
	}
	for range 8 {
		p = p.synced(commitFacts{entries: 5, came: 2, waitedFrom: 5, took: 160 * us})
	}
	if d, _ := p.step(paceInput{pending: 3, ended: 20 * us, quiet: 10 * us}); p.cohort != 7 || d != paceQuiet {
		t.Errorf("after waits in vain: %+v, %s", p, paceNames[d])
	}
	for range pacePauses - 1 {
		p = p.synced(commitFacts{entries: 5, took: 320 * us})
	}
	if d, _ := p.step(paceInput{pending: 3, ended: 20 * us, quiet: 10 * us}); p.cohort != 5 || p.sync < 280*us || d != paceWait {
		t.Errorf("after many commits without a wait: %+v, %s", p, paceNames[d])
	}
}

// TestPaceLate: where the first entry comes later than the committer stays awake for, it does not stay awake; it does again once they
// come at once.
func TestPaceLate(t *testing.T) {
	const us = time.Microsecond
	p := pace{sync: 160 * us}
	after := func(first time.Duration, want paceDecision) {
		t.Helper()
		p = p.synced(commitFacts{entries: 1, first: first, took: 160 * us, sinceLast: time.Millisecond})
		if d, _ := p.step(paceInput{ended: us, quiet: us}); d != want {
			t.Errorf("first entries come after %v: %v, want %v", first, paceNames[d], paceNames[want])
		}
	}
	after(5*us, paceWait)
	after(300*us, pacePark)
	after(-3*us, paceWait) // they came during the commit before
	after(300*us, pacePark)
	after(15*us, paceWait)
}
