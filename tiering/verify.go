package tiering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/logcore/logcore"
)

// Progress is how far Verify or Repair is.
type Progress struct {
	Phase                 string // "manifest", "objects" or "others"
	Objects, ObjectsTotal int    // of the shard at hand
	Bytes                 int64  // read so far
	Problems              int    // found so far, notices included
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Archives  []ArchiveReport // one for each cluster and shard
	Bytes     int64           // read from the targets
	Objects   int             // that the manifest names
	Fragments int             // read, named or not
	Records   int             // manifest records and claims read, on all targets
	Decrypted bool            // objects were opened with keys too
	Problems  []Problem       // in order of target and key; notices included
}

// ArchiveReport is what one shard's archive covers.
type ArchiveReport struct {
	Location
	First, Covered logcore.LSN
	Record, Epoch  uint64 // of the newest manifest record
	Objects        int
}

// OK reports whether nothing is damaged. Notices don't count.
func (r VerifyReport) OK() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.Notice() })
}

// Complete reports whether every target that the manifest names was read.
func (r VerifyReport) Complete() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == ProblemUnreachable })
}

// Verify reads every byte of every object on every target and checks it: each fragment
// against its checksums and the manifest's hash, the fragments of an object against
// each other (data and parity), every manifest record on every target with its signatures,
// the chain. With a keyring it also opens every object. With PublicKeys it works on the
// ciphertext and proves that their owner signed every record; without any (nil) only that
// whoever the manifest names did. It changes nothing. progress may be nil; it is called from
// one goroutine at a time. It fails only when it can't look at all: with ErrNoArchive,
// ErrUnproven when no target answers, or ctx's error.
func Verify(ctx context.Context, targets []Target, keys KeyProvider, progress func(Progress)) (VerifyReport, error) {
	c := &checker{keys: keys, progress: progress}
	err := c.run(ctx, targets)
	return c.report, err
}

// RepairReport is what Repair did.
type RepairReport struct {
	Found VerifyReport // as before the repair
	Fixed []Problem    // rewritten from good copies, or removed where nothing needs it
	Left  []Problem    // damage that could not be repaired, with notices not among it
}

// Repair does what Verify does and rewrites what is damaged or missing from what is
// good: fragments from k others, records from other targets. A key always gets the
// bytes it had. Damaged objects that nothing needs any more are deleted, and so are
// forks of a chain that is proved; orphans are left alone. It must not run beside an
// archiver of the same archive, which repairs by itself.
func Repair(ctx context.Context, targets []Target, keys KeyProvider, progress func(Progress)) (RepairReport, error) {
	c := &checker{keys: keys, progress: progress, repair: true}
	err := c.run(ctx, targets)
	out := RepairReport{Found: c.report, Fixed: c.fixed}
	for _, p := range c.report.Problems {
		if !p.Notice() && !slices.ContainsFunc(c.fixed, func(f Problem) bool { return f.Target == p.Target && f.Key == p.Key }) {
			out.Left = append(out.Left, p)
		}
	}
	return out, err
}

// checker is one run of Verify or Repair.
type checker struct {
	keys     KeyProvider
	progress func(Progress)
	repair   bool
	remotes  []*remote

	mu       sync.Mutex
	report   VerifyReport // guarded by mu
	fixed    []Problem    // guarded by mu
	now      Progress     // guarded by mu
	silent   map[string]bool
	claims   map[string]map[[32]byte][]string // guarded by mu: key → hash → targets
	seenKeys map[string]bool                  // guarded by mu: target + key of what was read as part of an object
}

// checkConcurrency bounds the objects in memory.
const checkConcurrency = 2

func (c *checker) run(ctx context.Context, targets []Target) error {
	found, err := Discover(ctx, targets)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return ErrNoArchive
	}
	c.remotes = newRemotes(targets, ReaderOptions{}.withDefaults().OpTimeout)
	c.silent, c.seenKeys, c.claims = map[string]bool{}, map[string]bool{}, map[string]map[[32]byte][]string{}
	c.report.Decrypted = opens(c.keys)
	for _, l := range found {
		if err := c.checkArchive(ctx, l); err != nil {
			return err
		}
	}
	slices.SortStableFunc(c.report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Offset, b.Offset))
	})
	return ctx.Err()
}

func (c *checker) checkArchive(ctx context.Context, l Location) error {
	c.step("manifest", 0, 0)
	m, err := loadManifest(ctx, c.remotes, l.Cluster, l.Shard, c.keys)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if notDamage(err) {
		return fmt.Errorf("tiering: cluster %x, shard %d: %w", l.Cluster, l.Shard, err) // nothing is known to be damaged
	}
	proved := err == nil
	if m == nil {
		m = &manifest{state: &state{cluster: l.Cluster, shard: l.Shard}}
	}
	if err != nil {
		c.problem(problemOf("manifest", shardPrefix(l.Cluster, l.Shard), ProblemManifest, err))
	}
	for _, p := range m.problems {
		c.problem(p)
		if c.repair && proved && ctx.Err() == nil {
			c.repairRecord(ctx, m, p)
		}
	}
	s := m.state
	for _, name := range s.targets {
		if r := remoteNamed(c.remotes, name); r == nil {
			c.unreachable(name, errors.New("not given"))
		} else if !slices.Contains(m.answered, name) {
			_, err := r.health()
			c.unreachable(name, err)
		}
	}
	c.mu.Lock()
	c.report.Archives = append(c.report.Archives, ArchiveReport{l, s.first(), s.covered(), s.number, s.epoch, len(s.live)})
	c.report.Objects += len(s.live)
	c.mu.Unlock()
	count := 0
	eachLimited(len(s.live), checkConcurrency, func(i int) {
		if ctx.Err() != nil {
			return
		}
		c.checkObject(ctx, s.live[i])
		c.mu.Lock()
		count++
		n := count
		c.mu.Unlock()
		c.step("objects", n, len(s.live))
	})
	for _, r := range c.remotes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !c.silent[r.Name] {
			c.checkOthers(ctx, r, l, m)
		}
	}
	c.compareClaims()
	return ctx.Err()
}

// unreachable notes once that a target could not be read.
func (c *checker) unreachable(name string, err error) {
	c.mu.Lock()
	known := c.silent[name]
	c.silent[name] = true
	c.mu.Unlock()
	if !known {
		c.problem(Problem{Target: name, Offset: -1, Kind: ProblemUnreachable, Detail: fmt.Sprintf("what it holds was not read: %v", err), err: err})
	}
}

// problem notes something wrong, once for each place.
func (c *checker) problem(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.report.Problems, func(q Problem) bool {
		return q.Target == p.Target && q.Key == p.Key && q.Offset == p.Offset && q.Kind == p.Kind
	}) {
		return
	}
	c.report.Problems = append(c.report.Problems, p)
}

func (c *checker) fix(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fixed = append(c.fixed, p)
}

// step reports progress.
func (c *checker) step(phase string, objects, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.progress == nil {
		return
	}
	c.now = Progress{Phase: phase, Objects: objects, ObjectsTotal: total, Bytes: c.report.Bytes, Problems: len(c.report.Problems)}
	c.progress(c.now)
}

// read gets a whole object and counts it.
func (c *checker) read(ctx context.Context, r *remote, key string, fragments, records int) ([]byte, error) {
	data, err := r.get(ctx, key, 0, -1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seenKeys[r.Name+" "+key] = true
	if err == nil {
		c.report.Bytes += int64(len(data))
		c.report.Fragments += fragments
		c.report.Records += records
	}
	return data, err
}
