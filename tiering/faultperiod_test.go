package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// TestAProviderGoingWrongForAWhile breaks both targets of a provider in each way for a
// while. Meanwhile the archive goes on, nothing covered is lost, the status says what is
// wrong, and nobody is called without end; afterwards everything is redundant again, by
// itself.
func TestAProviderGoingWrongForAWhile(t *testing.T) {
	region := errors.Join(bucket.ErrInvalid, errors.New("the bucket is in another region"))
	skewed := errors.Join(bucket.ErrDenied, errors.New("RequestTimeTooSkewed: check this machine's clock"))
	expired := errors.Join(bucket.ErrDenied, errors.New("ExpiredToken"))
	for _, c := range []struct {
		name   string
		faults []bucket.Fault
		says   string // in the targets' status; empty where the provider lies and nothing shows
	}{
		{"credentials expired", []bucket.Fault{{Effect: bucket.Fail(expired)}}, "ExpiredToken"},
		{"clock skewed", []bucket.Fault{{Effect: bucket.Fail(skewed)}}, "clock"},
		{"another region", []bucket.Fault{{Effect: bucket.Fail(region)}}, "region"},
		{"503 storm", []bucket.Fault{{Effect: bucket.Unavailable()}}, "503"},
		{"throttled", []bucket.Fault{{Effect: bucket.Throttled()}}, "throttled"},
		{"full", []bucket.Fault{{Op: bucket.OpPut, Effect: bucket.Fail(bucket.ErrFull)}}, ""},
		{"hanging", []bucket.Fault{{Effect: bucket.Hang()}}, ""},
		{"half a put", []bucket.Fault{{Op: bucket.OpPut, Effect: bucket.HalfPut(nil)}}, ""},
		{"half a put, reported", []bucket.Fault{{Op: bucket.OpPut, Effect: bucket.HalfPut(errors.New("injected"))}}, ""},
		{"put stored but reported failed", []bucket.Fault{{Op: bucket.OpPut, Effect: bucket.DoneButLost(nil)}}, ""},
		{"put of nothing", []bucket.Fault{{Op: bucket.OpPut, Effect: bucket.PutNothing()}}, ""},
		{"another object", []bucket.Fault{{Op: bucket.OpGet, Key: "*/fragment/*", Effect: bucket.WrongObject("")}}, ""},
		{"rotten bytes", []bucket.Fault{{Op: bucket.OpGet, Effect: bucket.WrongBytes(777)}}, ""},
		{"half an answer", []bucket.Fault{{Op: bucket.OpGet, Effect: bucket.ShortRead()}}, ""},
		{"stale list", []bucket.Fault{{Op: bucket.OpList, Effect: bucket.StaleList()}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 48)
			w.change = func(o *Options) {
				o.MaxAge, o.OpTimeout, o.Grace = 4*time.Millisecond, 400*time.Millisecond, 500*time.Millisecond
			}
			a := w.start(nil)
			w.hot.append(3, 400)
			a.flushAll()
			w.hot.seal()
			w.hot.append(2, 400)
			a.flushAll()
			if err := a.quiesce(); err != nil {
				t.Fatal(err)
			}
			var rules []*bucket.Rule
			calls := func() int { return w.faults[0].Count(bucket.OpAny) + w.faults[1].Count(bucket.OpAny) }
			before, began := calls(), time.Now()
			for i := range 2 {
				other := w.otherKey(i, w.liveKey(i))
				for _, f := range c.faults {
					if c.name == "another object" {
						f.Effect = bucket.WrongObject(other)
					}
					rules = append(rules, w.faults[i].Add(f))
				}
			}
			var covered logcore.LSN
			for range 4 {
				w.hot.append(2, 400)
				a.flushAll()
				covered = a.Covered()
			}
			if c.says != "" {
				a.until("the status says "+c.says, func() bool {
					st := a.TargetStatus()
					return !st[0].Healthy && strings.Contains(st[0].LastError, c.says) && !st[1].Healthy
				})
			}
			w.hot.seal()
			w.hot.append(1, 100)
			a.flushAll()
			if err := w.checkWithout(covered, 0, 1); err != nil {
				t.Errorf("without the provider: %v", err)
			}
			if r, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: w.keys, OpTimeout: time.Second, Logger: quiet()}); err != nil {
				t.Errorf("with it: %v", err)
			} else if got, _, last, err := readBack(t.Context(), r); err != nil || string(got) != string(w.hot.content(1, last)) {
				t.Errorf("reading with it: %d bytes to LSN %d, %v", len(got), last, err)
			}
			if rate := float64(calls()-before) / max(1, time.Since(began).Seconds()); rate > 1000 {
				t.Errorf("%.0f calls a second went to the provider that is broken", rate)
			}
			hits := 0
			for _, r := range rules {
				hits += r.Hits()
			}
			if hits == 0 {
				t.Error("the fault hit nothing")
			}
			w.faults[0].Up()
			w.faults[1].Up()
			if err := a.quiesce(); err != nil {
				t.Fatal(err)
			}
			a.until("every fragment is in place", func() bool {
				report, err := Verify(t.Context(), w.bare(), w.keys, nil)
				for _, p := range report.Problems {
					if !p.Notice() || p.Kind == ProblemDegraded {
						return false
					}
				}
				return err == nil
			})
			w.mustCheck(a.Covered())
		})
	}
}

// swapped is a bucket that returns another one's fragment of the object that is asked for.
type swapped struct {
	bucket.Bucket
	other bucket.Bucket
}

func (s swapped) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	name, _, isFragment := strings.Cut(key, ".")
	if !isFragment {
		return s.Bucket.Get(ctx, key, offset, length)
	}
	for i := range targetNames {
		if data, err := s.other.Get(ctx, fmt.Sprintf("%s.%02d", name, i), offset, length); err == nil {
			return data, nil
		}
	}
	return nil, bucket.ErrNotFound
}

// Every loss of at most two targets, and on top of it every swap of two of the fragments
// that are left, as a bucket would return them: the bytes come out right, because a fragment
// says itself which one it is, and the swap is noticed.
func TestEveryLossAndSwapThroughBuckets(t *testing.T) {
	w, covered := filled(t, 49)
	want := w.hot.content(1, covered)
	ran, noticed := 0, 0
	for a := -1; a < 6; a++ {
		for b := a; b < 6; b++ {
			if b == a && a >= 0 { // one loss is a pair of -1 and it
				continue
			}
			left := without(w.bare(), a, b)
			for i := range left {
				for j := i; j < len(left); j++ { // i == j swaps nothing
					targets := slices.Clone(left)
					targets[i].Bucket, targets[j].Bucket = swapped{left[i].Bucket, left[j].Bucket}, swapped{left[j].Bucket, left[i].Bucket}
					r, err := w.readerOn(targets)
					if err != nil {
						t.Fatalf("without %d %d, swapped %d %d: %v", a, b, i, j, err)
					}
					got, _, last, err := readBack(t.Context(), r)
					ran++
					if err != nil || last != covered || string(got) != string(want) {
						t.Fatalf("without %d %d, swapped %d %d: %d bytes, %v", a, b, i, j, len(got), err)
					}
					if counterValue(r.corruptions) > 0 {
						noticed++
					} else if i != j && j < 4 {
						t.Errorf("without %d %d, swapped %d %d: nobody noticed", a, b, i, j)
					}
				}
			}
		}
	}
	t.Logf("%d cases, a swap was noticed in %d", ran, noticed)
	if ran < 22*7 || noticed < ran/2 {
		t.Errorf("%d cases, noticed in %d: the test tests too little", ran, noticed)
	}
}
