package bucket

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Op names a method of Bucket in a Fault.
type Op string

// The operations.
const (
	OpAny    Op = ""
	OpPut    Op = "put"
	OpGet    Op = "get"
	OpHead   Op = "head"
	OpList   Op = "list"
	OpDelete Op = "delete"
	OpRetain Op = "retain"
)

// Call is one call as a fault sees it. Its Key is the prefix for a List.
type Call struct {
	Op  Op
	Key string
}

// Fault is what goes wrong, and when.
type Fault struct {
	Op  Op     // OpAny: every operation
	Key string // a pattern in which * stands for any bytes, slashes too; empty: every key
	// From is the number of the first matching call that is hit, counted from 1; 0 means 1.
	From int
	// Count is how many calls are hit; 0 means every one from From on.
	Count  int
	Effect Effect
}

// Faults is a bucket that fails as it is told to, for tests. It may be used, and told,
// by many goroutines. It is a Retainer always; Retain fails with ErrInvalid when the
// bucket inside is none.
type Faults struct {
	next Bucket

	mu     sync.Mutex
	rules  []*Rule        // guarded by mu
	calls  []Call         // guarded by mu; at most callsMax, the newest
	counts map[Op]int     // guarded by mu
	puts   map[string]int // guarded by mu; the number of the put that made a key
	put    int            // guarded by mu; how many puts there were
}

// callsMax bounds the trace of calls.
const callsMax = 100_000

var (
	_ Bucket   = (*Faults)(nil)
	_ Retainer = (*Faults)(nil)
)

// Rule is an added fault.
type Rule struct {
	fault  Fault
	faults *Faults
	since  int // the number of puts when it was added
	seen   int // guarded by faults.mu; matching calls
	hits   int // guarded by faults.mu; calls that were hit
}

// Hits returns how many calls the fault hit: 0 means that the test tested nothing.
func (r *Rule) Hits() int {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	return r.hits
}

// NewFaults wraps b; nothing is wrong with it yet.
func NewFaults(b Bucket) *Faults {
	return &Faults{next: b, counts: make(map[Op]int), puts: make(map[string]int)}
}

// Add adds a fault. Of several that match a call the one added last is used.
func (f *Faults) Add(fault Fault) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.From = max(fault.From, 1)
	r := &Rule{fault: fault, faults: f, since: f.put}
	f.rules = append(f.rules, r)
	return r
}

// Down makes every call fail with ErrGone until Up: the cloud is lost.
func (f *Faults) Down() *Rule {
	return f.Add(Fault{Effect: Fail(fmt.Errorf("injected: %w", ErrGone))})
}

// Up removes every fault.
func (f *Faults) Up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Count returns how many calls of an operation there were, OpAny of all.
func (f *Faults) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != OpAny {
		return f.counts[op]
	}
	sum := 0
	for _, n := range f.counts {
		sum += n
	}
	return sum
}

// Calls returns a copy of the newest calls, oldest first.
func (f *Faults) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// begin records a call, finds the effect on it and runs what comes before it.
func (f *Faults) begin(ctx context.Context, op Op, key string) (hit, error) {
	h := hit{call: Call{op, key}}
	f.mu.Lock()
	f.counts[op]++
	if f.calls = append(f.calls, h.call); len(f.calls) > callsMax {
		f.calls = append([]Call(nil), f.calls[callsMax/2:]...)
	}
	found := false
	for _, r := range slices.Backward(f.rules) {
		if due := r.due(h.call); due && !found {
			found, h.effect, h.since = true, r.fault.Effect, r.since
			r.hits++
		}
	}
	f.mu.Unlock()
	if h.effect.Before != nil {
		if err := h.effect.Before(ctx, h.call); err != nil {
			return h, fmt.Errorf("%v: %s %s: %w", f.next, op, key, err)
		}
	}
	return h, nil
}

// hit is a call with what goes wrong with it.
type hit struct {
	call   Call
	effect Effect
	since  int
}

// end lets the effect replace the result.
func (h hit) end(err error) error {
	if h.effect.After != nil {
		return h.effect.After(h.call, err)
	}
	return err
}

// due counts a call that matches and says whether its turn has come. faults.mu is held.
func (r *Rule) due(c Call) bool {
	if r.fault.Op != OpAny && r.fault.Op != c.Op || r.fault.Key != "" && !matchKey(r.fault.Key, c.Key) {
		return false
	}
	r.seen++
	return r.seen >= r.fault.From && (r.fault.Count == 0 || r.seen < r.fault.From+r.fault.Count)
}

// matchKey matches a pattern in which * stands for any bytes.
func matchKey(pattern, key string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == key
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(key, first) || len(key) < len(first)+len(last) || !strings.HasSuffix(key, last) {
		return false
	}
	key = key[len(first) : len(key)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(key, part)
		if at < 0 {
			return false
		}
		key = key[at+len(part):]
	}
	return true
}

// PutIfAbsent implements Bucket.
func (f *Faults) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	h, err := f.begin(ctx, OpPut, key)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.put++
	if _, known := f.puts[key]; !known {
		f.puts[key] = f.put
	}
	f.mu.Unlock()
	if h.effect.Put != nil {
		err = h.effect.Put(ctx, f.next, key, data)
	} else {
		err = f.next.PutIfAbsent(ctx, key, data)
	}
	return h.end(err)
}

// Get implements Bucket.
func (f *Faults) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	h, err := f.begin(ctx, OpGet, key)
	if err != nil {
		return nil, err
	}
	data, err := f.next.Get(ctx, key, offset, length)
	if err == nil && h.effect.Got != nil {
		data, err = h.effect.Got(ctx, f.next, key, bytes.Clone(data))
	}
	if err = h.end(err); err != nil {
		return nil, err
	}
	return data, nil
}

// Head implements Bucket.
func (f *Faults) Head(ctx context.Context, key string) (Attributes, error) {
	h, err := f.begin(ctx, OpHead, key)
	if err != nil {
		return Attributes{}, err
	}
	a, err := f.next.Head(ctx, key)
	return a, h.end(err)
}

// List implements Bucket.
func (f *Faults) List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) error {
	h, err := f.begin(ctx, OpList, prefix)
	if err != nil {
		return err
	}
	return h.end(f.next.List(ctx, prefix, startAfter, func(a Attributes) bool {
		if h.effect.Hides != nil && h.effect.Hides(a.Key, f.newer(a.Key, h.since)) {
			return true
		}
		return yield(a)
	}))
}

func (f *Faults) newer(key string, since int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts[key] > since
}

// Delete implements Bucket.
func (f *Faults) Delete(ctx context.Context, key string) error {
	h, err := f.begin(ctx, OpDelete, key)
	if err != nil {
		return err
	}
	return h.end(f.next.Delete(ctx, key))
}

// Retain implements Retainer.
func (f *Faults) Retain(ctx context.Context, key string, until time.Time) error {
	h, err := f.begin(ctx, OpRetain, key)
	if err != nil {
		return err
	}
	next, ok := f.next.(Retainer)
	if !ok {
		return fmt.Errorf("%v: %w: it offers no retention", f.next, ErrInvalid)
	}
	return h.end(next.Retain(ctx, key, until))
}

// String implements Bucket.
func (f *Faults) String() string { return f.next.String() }

// Close implements Bucket.
func (f *Faults) Close() error { return f.next.Close() }
