package target

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// The capabilities that Probe looks for.
const (
	// CapConditionalPut: of several puts of one key exactly one wins. Without it two
	// writers of the same key may both be told that they won, so only unique keys are safe.
	CapConditionalPut = "conditional-put"
	// CapChecksum: bytes that don't match their checksum are refused on arrival. Without
	// it what was written must be read back to be believed. A directory checks nothing in
	// transfer, because there is none.
	CapChecksum = "checksum"
	// CapReadAfterWrite: Get, Head and List see an object at once, and no longer once it
	// is deleted.
	CapReadAfterWrite = "read-after-write"
	// CapRange: a part of an object can be read.
	CapRange = "range"
	// CapRetention: an object under retention can't be deleted. Only ProbeRetention looks.
	CapRetention = "retention"
)

// Capabilities is what a probe found.
type Capabilities struct {
	// Names are the capabilities that were shown, ascending.
	Names []string
	// Missing says for each one that wasn't shown what happened instead.
	Missing map[string]string
}

// Has reports whether a capability was shown.
func (c Capabilities) Has(name string) bool { return slices.Contains(c.Names, name) }

// String lists the capabilities, and those that are missing with a minus.
func (c Capabilities) String() string {
	words := slices.Clone(c.Names)
	for name := range c.Missing {
		words = append(words, "-"+name)
	}
	slices.SortFunc(words, func(x, y string) int { return strings.Compare(strings.TrimPrefix(x, "-"), strings.TrimPrefix(y, "-")) })
	return strings.Join(words, " ")
}

// ProbePrefix is where probes put their objects.
const ProbePrefix = "logcore-probe/"

// retentionProbed is how long a probe's object stays under retention.
const retentionProbed = 5 * time.Second

// errNotShown is a capability that the target answered against, not a failure to ask.
type errNotShown struct{ what string }

func (e errNotShown) Error() string { return e.what }

func notShown(format string, args ...any) error { return errNotShown{fmt.Sprintf(format, args...)} }

type probe struct {
	bucket bucket.Bucket
	prefix string
	found  Capabilities
}

// Probe finds out what a target can do by trying: what a provider documents and what it
// does differ. It writes a few small objects under ProbePrefix and removes them. An
// error means that the target could not be asked, not that something is missing. Give
// it the bare bucket, or one under retries.
func Probe(ctx context.Context, b bucket.Bucket) (Capabilities, error) {
	return runProbe(ctx, b, map[string]func(*probe, context.Context) error{
		CapConditionalPut: (*probe).conditionalPut, CapChecksum: (*probe).checksum,
		CapReadAfterWrite: (*probe).readAfterWrite, CapRange: (*probe).rangeRead,
	})
}

// ProbeRetention finds out whether objects can be kept from being deleted. Its object
// stays for a few seconds after the probe, and for good when nobody deletes it: it is
// under ProbePrefix as well.
func ProbeRetention(ctx context.Context, b bucket.Bucket) (Capabilities, error) {
	return runProbe(ctx, b, map[string]func(*probe, context.Context) error{CapRetention: (*probe).retention})
}

func runProbe(ctx context.Context, b bucket.Bucket, checks map[string]func(*probe, context.Context) error) (Capabilities, error) {
	p := &probe{bucket: b, prefix: ProbePrefix + strings.ToLower(rand.Text()) + "/", found: Capabilities{Missing: make(map[string]string)}}
	for name, check := range checks {
		err := check(p, ctx)
		var missing errNotShown
		switch {
		case err == nil:
			p.found.Names = append(p.found.Names, name)
		case errors.As(err, &missing):
			p.found.Missing[name] = missing.what
		default:
			return Capabilities{}, fmt.Errorf("probe %v for %s: %w", b, name, err)
		}
	}
	slices.Sort(p.found.Names)
	return p.found, nil
}

// conditionalPut puts twice in a row, then four at once.
func (p *probe) conditionalPut(ctx context.Context) error {
	key := p.prefix + "conditional/twice"
	defer p.remove(ctx, key)
	if err := p.bucket.PutIfAbsent(ctx, key, []byte("first")); err != nil {
		return err
	}
	err := p.bucket.PutIfAbsent(ctx, key, []byte("second"))
	stored, gerr := p.bucket.Get(ctx, key, 0, -1)
	switch {
	case gerr != nil:
		return gerr
	case string(stored) != "first":
		return notShown("a second put with other bytes replaced the object")
	case err == nil:
		return notShown("a second put with other bytes was reported as done")
	case !errors.Is(err, bucket.ErrExists):
		return err
	}
	return p.conditionalRace(ctx)
}

func (p *probe) conditionalRace(ctx context.Context) error {
	for round := range 3 {
		key := fmt.Sprintf("%sconditional/race-%d", p.prefix, round)
		defer p.remove(ctx, key)
		errs := make([]error, 4)
		var writers sync.WaitGroup
		for i := range errs {
			writers.Go(func() { errs[i] = p.bucket.PutIfAbsent(ctx, key, []byte{byte(i)}) })
		}
		writers.Wait()
		stored, err := p.bucket.Get(ctx, key, 0, -1)
		if err != nil {
			return err
		}
		for i, err := range errs {
			won := len(stored) == 1 && stored[0] == byte(i)
			switch {
			case err == nil && !won:
				return notShown("of puts at the same time more than one was reported as done")
			case err != nil && !errors.Is(err, bucket.ErrExists):
				return err
			case err != nil && won:
				return notShown("of puts at the same time the one that was refused is stored")
			}
		}
	}
	return nil
}

// checksummer is a bucket whose provider checks a CRC-32C.
type checksummer interface {
	PutChecksum(ctx context.Context, key string, data []byte, sum uint32) error
}

func (p *probe) checksum(ctx context.Context) error {
	b, ok := p.bucket.(checksummer)
	if !ok {
		return notShown("nothing is sent: the bucket is in this machine")
	}
	key := p.prefix + "checksum"
	defer p.remove(ctx, key)
	data := []byte("these bytes don't have that checksum")
	err := b.PutChecksum(ctx, key, data, crc32.Checksum(data, castagnoli)^1)
	switch {
	case errors.Is(err, bucket.ErrChecksum):
		return nil
	case err == nil:
		return notShown("bytes with a wrong checksum were accepted")
	}
	return err
}

func (p *probe) readAfterWrite(ctx context.Context) error {
	key := p.prefix + "visible"
	defer p.remove(ctx, key)
	if err := p.bucket.PutIfAbsent(ctx, key, []byte("here")); err != nil {
		return err
	}
	if err := p.seen(ctx, key, true); err != nil {
		return err
	}
	if err := p.bucket.Delete(ctx, key); err != nil {
		return err
	}
	return p.seen(ctx, key, false)
}

// seen asks in every way whether an object is there.
func (p *probe) seen(ctx context.Context, key string, want bool) error {
	_, getErr := p.bucket.Get(ctx, key, 0, -1)
	_, headErr := p.bucket.Head(ctx, key)
	for call, err := range map[string]error{"Get": getErr, "Head": headErr} {
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return err
		}
		if (err == nil) != want {
			return notShown("%s right after the change: there is %v, should be %v", call, err == nil, want)
		}
	}
	listed := false
	err := p.bucket.List(ctx, p.prefix, "", func(a bucket.Attributes) bool {
		listed = listed || a.Key == key
		return true
	})
	if err == nil && listed != want {
		return notShown("List right after the change: there is %v, should be %v", listed, want)
	}
	return err
}

func (p *probe) rangeRead(ctx context.Context) error {
	key := p.prefix + "range"
	defer p.remove(ctx, key)
	if err := p.bucket.PutIfAbsent(ctx, key, []byte("0123456789")); err != nil {
		return err
	}
	got, err := p.bucket.Get(ctx, key, 3, 4)
	if err != nil {
		return err
	}
	if string(got) != "3456" {
		return notShown("bytes 3 to 6 of 0123456789 came as %q", got)
	}
	return nil
}

func (p *probe) retention(ctx context.Context) error {
	b, ok := p.bucket.(bucket.Retainer)
	if !ok {
		return notShown("this kind of bucket has none")
	}
	key := p.prefix + "retention"
	if err := p.bucket.PutIfAbsent(ctx, key, []byte("kept")); err != nil {
		return err
	}
	err := b.Retain(ctx, key, time.Now().Add(retentionProbed).Truncate(time.Second).Add(time.Second))
	if errors.Is(err, bucket.ErrInvalid) {
		p.remove(ctx, key)
		return notShown("refused: %v", err)
	}
	if err != nil {
		p.remove(ctx, key)
		return err
	}
	err = p.bucket.Delete(ctx, key)
	switch {
	case errors.Is(err, bucket.ErrRetention):
		return nil
	case err == nil:
		return notShown("an object under retention was deleted")
	}
	return err
}

// remove cleans up, as far as it can: what stays is under ProbePrefix.
func (p *probe) remove(ctx context.Context, key string) {
	_ = p.bucket.Delete(ctx, key)
}
