package tiering

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// errNoBucket is what every call to a target answers that could not be opened.
var errNoBucket = errors.New("the target could not be opened")

// errBreakerOpen is what a call answers while a target is left alone after failures.
var errBreakerOpen = errors.New("the target failed repeatedly and is left alone for a while")

// readBackAttempts is how often a put that can't be read back is made.
const readBackAttempts = 2

// remote is a target with its deadline and its circuit breaker. Its methods may be
// called concurrently.
type remote struct {
	Target
	opTimeout time.Duration
	provider  *provider // shared with the other targets there
	usage     usage

	mu        sync.Mutex
	breaker   breaker         // guarded by mu
	lastErr   error           // guarded by mu: nil once a call succeeded
	away      bool            // guarded by mu: a call failed since it was last brought up to date
	cutOffs   int             // guarded by mu: reads in a row that others outran
	avoidTill time.Time       // guarded by mu: until when reads prefer others
	held      map[string]bool // guarded by mu: keys of the chain's records known to be whole here
	writing   map[string]bool // guarded by mu: keys of records on their way here
}

func newRemotes(targets []Target, opTimeout time.Duration) []*remote {
	out := make([]*remote, len(targets))
	providers := newProviders(targets)
	for i, t := range targets {
		out[i] = &remote{Target: t, opTimeout: opTimeout, provider: providers[providerKey(t)]}
		if t.Bucket == nil {
			out[i].lastErr = errNoBucket
		}
	}
	return out
}

// errGivenUp is why a call is cut off whose answer is not worth waiting for any more: it
// counts as a failure of its target.
var errGivenUp = errors.New("no answer in a reasonable time")

// do runs one call under the deadline, unless a breaker is open. Answers that tell
// about the object, not about the target, leave the breakers alone.
func (r *remote) do(ctx context.Context, op func(ctx context.Context) error) error {
	if r.Bucket == nil {
		return fmt.Errorf("%s: %w", r.Name, errNoBucket)
	}
	end, err := r.admit()
	if err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, r.opTimeout)
	defer cancel()
	err = op(callCtx)
	cut := errors.Is(context.Cause(ctx), errStraggler) || errors.Is(context.Cause(ctx), errGivenUp)
	switch {
	case err == nil || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrExists):
		end(nil, true)
	case ctx.Err() != nil && !cut:
		end(nil, false) // the caller went away: that says nothing about the target
	case cut && errors.Is(err, context.Canceled): // which would not say why
		end(fmt.Errorf("%s: %w", r.Name, context.Cause(ctx)), true)
	default:
		end(err, true)
	}
	return err
}

// admit refuses while a breaker is open. Once its pause is over one caller may probe;
// the others are refused until it is known what that found. end must be called once,
// with the outcome, or with known false when there is none.
func (r *remote) admit() (end func(err error, known bool), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, probe := r.breaker.admit(time.Now(), r.opTimeout)
	if !ok {
		return nil, fmt.Errorf("%s: %w (last error: %v)", r.Name, errBreakerOpen, r.lastErr)
	}
	ok, providerProbe := r.provider.admit(r.opTimeout)
	if !ok {
		if probe {
			r.breaker.abandon()
		}
		return nil, fmt.Errorf("%s: provider %s: %w (last error here: %v)", r.Name, r.provider.name, errBreakerOpen, r.lastErr)
	}
	return func(err error, known bool) {
		if known {
			r.record(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if probe {
			r.breaker.abandon()
		}
		if providerProbe {
			r.provider.abandon()
		}
	}, nil
}

// record tells the breakers what became of a call.
func (r *remote) record(err error) {
	if err == nil || !ofTarget(err) {
		r.provider.record(r.Name, err == nil)
	} else {
		r.provider.abandon() // it answered, though not as one wishes
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr, r.away = err, r.away || err != nil
	if errors.Is(err, context.DeadlineExceeded) { // it had all of opTimeout: three of those are too long to wait
		r.breaker.trip(time.Now())
		return
	}
	r.breaker.record(time.Now(), err == nil)
}

// health returns whether the last call succeeded, and why not.
func (r *remote) health() (ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr == nil, r.lastErr
}

// wasAway reports whether a call has failed since the last comeBack.
func (r *remote) wasAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

// comeBack notes that the target is up to date and about to be audited.
func (r *remote) comeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
}

// state returns that of the target's breaker, or of its provider's when that is worse.
func (r *remote) state() BreakerState {
	return max(r.ownState(), r.provider.state())
}

func (r *remote) ownState() BreakerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.state()
}

// hold notes that a record of the chain is whole on the target, or not.
func (r *remote) hold(key string, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[string]bool{}
	}
	if whole {
		r.held[key] = true
	} else {
		delete(r.held, key)
	}
}

// startWriting notes that a record is on its way; the func it returns that it arrived or
// did not.
func (r *remote) startWriting(key string) (end func(err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writing == nil {
		r.writing = map[string]bool{}
	}
	r.writing[key] = true
	return func(err error) {
		r.hold(key, err == nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.writing, key)
	}
}

// lacks returns the records of the chain that the target is not known to hold and that
// are not on their way, and forgets what is not of the chain.
func (r *remote) lacks(chain []stored) (missing []stored) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(map[string]bool, len(chain))
	for _, s := range chain {
		if r.held[s.key()] {
			held[s.key()] = true
		} else if !r.writing[s.key()] {
			missing = append(missing, s)
		}
	}
	r.held = held
	return missing
}

func (r *remote) get(ctx context.Context, key string, off, n int64) (data []byte, err error) {
	err = r.do(ctx, func(ctx context.Context) error {
		data, err = r.Bucket.Get(ctx, key, off, n)
		return err
	})
	r.usage.gets.Add(1)
	r.usage.bytesRead.Add(int64(len(data)))
	return data, err
}

func (r *remote) delete(ctx context.Context, key string) error {
	return r.do(ctx, func(ctx context.Context) error { return r.Bucket.Delete(ctx, key) })
}

// list returns the keys under prefix after startAfter, as the target shows them: a hint.
func (r *remote) list(ctx context.Context, prefix, startAfter string) (keys []bucket.Attributes, err error) {
	r.usage.puts.Add(1) // billed as one
	err = r.do(ctx, func(ctx context.Context) error {
		keys = nil
		return r.Bucket.List(ctx, prefix, startAfter, func(a bucket.Attributes) bool {
			keys = append(keys, a)
			return true
		})
	})
	return keys, err
}

// putVerified stores data under an immutable key, reads it back and compares. What is
// there and differs is replaced when replace allows it: the key names these bytes, so
// others are damage, for example half a PUT. readBack is called between the two.
func (r *remote) putVerified(ctx context.Context, key string, data []byte, replace func(stored []byte) bool, readBack func() error) error {
	var last error
	for range readBackAttempts {
		r.usage.puts.Add(1)
		err := r.do(ctx, func(ctx context.Context) error { return r.Bucket.PutIfAbsent(ctx, key, data) })
		if err != nil && !errors.Is(err, bucket.ErrExists) {
			// The answer may be wrong: stored but reported lost. Reading tells.
			last = err
			if bucket.IsPermanent(err) {
				return fmt.Errorf("%s: put %s: %w", r.Name, key, err)
			}
		}
		if err := readBack(); err != nil {
			return err
		}
		stored, getErr := r.get(ctx, key, 0, -1)
		if getErr == nil && bytes.Equal(stored, data) {
			return nil
		}
		if getErr != nil {
			last = cmpErr(last, getErr)
			continue
		}
		last = fmt.Errorf("%w: read back other bytes than were put", bucket.ErrChecksum)
		if !replace(stored) {
			return fmt.Errorf("%s: put %s: %w", r.Name, key, bucket.ErrExists)
		}
		if err := r.delete(ctx, key); err != nil {
			last = err
		}
	}
	return fmt.Errorf("%s: put %s: %w", r.Name, key, last)
}

// cmpErr keeps the first cause: a failed put explains the failed read.
func cmpErr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// always replaces.
func always([]byte) bool { return true }
