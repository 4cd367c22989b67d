package enginetest

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// Run runs the whole suite for an engine.
func Run(t *testing.T, e Engine) {
	t.Run("PageEqualsReplay", func(t *testing.T) { testReplay(t, e) })
	t.Run("Restart", func(t *testing.T) { testRestart(t, e) })
	t.Run("SIGKILL", func(t *testing.T) { testKill(t, e) })
	t.Run("Branches", func(t *testing.T) { testBranches(t, e) })
	t.Run("ColdRebuild", func(t *testing.T) { testColdRebuild(t, e) })
	t.Run("ColdStart", func(t *testing.T) { testColdStart(t, e) })
	t.Run("ColdSIGKILL", func(t *testing.T) { testColdKill(t, e) })
	t.Run("Atomic", func(t *testing.T) { testAtomic(t, e) })
}

// fixture is a source with one log of random history.
type fixture struct {
	t      *testing.T
	e      Engine
	rng    *rand.Rand
	source *Source
	dir    string
}

func newFixture(t *testing.T, e Engine, transactions int) *fixture {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := &fixture{t: t, e: e, rng: rand.New(rand.NewPCG(seed, 0)), source: NewSource(1), dir: t.TempDir()}
	f.source.Create("db")
	f.append("db", transactions)
	return f
}

func (f *fixture) append(log string, transactions int) {
	for _, tx := range f.e.History(f.rng, transactions) {
		f.source.AppendTx(log, tx)
	}
}

func (f *fixture) start() *Subject { return Start(f.t, Options(f.dir, f.source, f.e.Decoder)) }

// spaces returns every space that a log ever had.
func (f *fixture) spaces(log string) []engine.Space { return SpacesOf(f.t, f.source, f.e.Decoder, log) }

// SpacesOf returns every space that a log ever had at a commit.
func SpacesOf(t testing.TB, source *Source, decoder engine.Decoder, log string) []engine.Space {
	seen := map[engine.Space]bool{}
	p := NewReplayer(decoder)
	for _, e := range source.Entries(log) {
		if err := p.Entry(&e); err != nil {
			t.Fatal(err)
		}
		for space := range p.State.Spaces {
			seen[space] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), engine.Space.Compare)
}

// compareAtRandom compares at random LSNs, the last one among them.
func (f *fixture) compareAtRandom(s *Subject, log string, rounds int) {
	f.t.Helper()
	spaces, last, compared := f.spaces(log), f.source.Last(), 0
	for i := range rounds {
		at := 1 + logcore.LSN(f.rng.Uint64N(uint64(last)))
		if i == 0 {
			at = last
		}
		n, err := Compare(f.t.Context(), s.Server, f.source, f.e.Decoder, log, at, spaces)
		if err != nil {
			f.t.Fatal(err)
		}
		compared += n
	}
	if compared < rounds {
		f.t.Fatalf("only %d pages compared in %d rounds: the run is void", compared, rounds)
	}
	f.t.Logf("%d pages of %s compared at %d LSNs", compared, log, rounds)
}

func testReplay(t *testing.T, e Engine) {
	f := newFixture(t, e, 400)
	f.compareAtRandom(f.start(), "db", 150)
}

// testRestart stops and starts the page server while the log grows.
func testRestart(t *testing.T, e Engine) {
	f := newFixture(t, e, 60)
	for range 4 {
		s := f.start()
		f.compareAtRandom(s, "db", 20)
		s.Stop(t)
		f.append("db", 40)
	}
	f.compareAtRandom(f.start(), "db", 60)
}

func testColdRebuild(t *testing.T, e Engine) {
	f := newFixture(t, e, 200)
	s := f.start()
	f.compareAtRandom(s, "db", 5)
	s.Stop(t)
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
	f.compareAtRandom(f.start(), "db", 60)
}

// testBranches grows a tree of branches, each at a random LSN of a random log.
func testBranches(t *testing.T, e Engine) {
	f := newFixture(t, e, 120)
	s := f.start()
	logs := []string{"db"}
	for i := range 8 {
		parent := logs[f.rng.IntN(len(logs))]
		if i == 3 {
			parent = logs[len(logs)-1] // at least one branch of a branch
		}
		at := 1 + logcore.LSN(f.rng.Uint64N(uint64(f.source.Last())))
		if i == 4 {
			at = 0
		}
		name := fmt.Sprintf("branch/%d", i)
		if _, lsn, err := s.CreateBranch(t.Context(), parent, name, pageserver.ReadAt{LSN: at, Wait: patience.Max}); err != nil || at != 0 && lsn != at {
			t.Fatalf("branch of %s at %d: LSN %d, %v", parent, at, lsn, err)
		}
		logs = append(logs, name)
		for _, log := range logs {
			f.append(log, f.rng.IntN(12))
		}
	}
	for _, log := range logs {
		f.compareAtRandom(s, log, 25)
	}
	s.Stop(t)
	s = f.start()
	for _, log := range logs {
		f.compareAtRandom(s, log, 15)
	}
}

// testAtomic reads the newest state all the time while transactions in parts come in:
// whatever LSN the answer names, it is the replay's state at that LSN.
func testAtomic(t *testing.T, e Engine) {
	f := newFixture(t, e, 1)
	s := f.start()
	history := f.e.History(f.rng, 300)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, tx := range history {
			f.source.AppendTx("db", tx)
			time.Sleep(time.Duration(len(tx.Parts)) * 200 * time.Microsecond)
		}
	}()
	spaces, compared, reads, appending := f.spacesOf(history), 0, 0, true
	for appending {
		select {
		case <-done:
			appending = false
		default:
		}
		n, err := Compare(t.Context(), s.Server, f.source, e.Decoder, "db", 0, spaces)
		if err != nil {
			t.Fatal(err)
		}
		compared, reads = compared+n, reads+1
	}
	t.Logf("%d pages compared in %d reads of the newest state", compared, reads)
	f.compareAtRandom(s, "db", 40)
}

func (f *fixture) spacesOf(history []Transaction) []engine.Space {
	scratch := NewSource(1)
	scratch.Create("db")
	for _, tx := range history {
		scratch.AppendTx("db", tx)
	}
	return SpacesOf(f.t, scratch, f.e.Decoder, "db")
}

// Environment of the child process that testKill starts.
const (
	childDir  = "LOGCORE_ENGINETEST_CHILD_DIR"
	childSeed = "LOGCORE_ENGINETEST_CHILD_SEED"
)

const killTransactions = 1500

// killSource is the source of the child and of its parent: the same for a seed.
func killSource(e Engine, seed uint64) *Source {
	source := NewSource(1)
	source.Create("db")
	for _, tx := range e.History(rand.New(rand.NewPCG(seed, 1)), killTransactions) {
		source.AppendTx("db", tx)
	}
	return source
}

// testKill lets a child process ingest and kills it at random moments. What the
// child's store holds after that must carry on to the right pages, from a position
// that is not the beginning.
func testKill(t *testing.T, e Engine) {
	if dir := os.Getenv(childDir); dir != "" {
		ingestUntilKilled(t, e, dir)
		return
	}
	f := newFixture(t, e, 1)
	seed := f.rng.Uint64()
	f.source = killSource(e, seed)
	for range 6 {
		f.killOnce(seed, time.Duration(10+f.rng.IntN(60))*time.Millisecond)
	}
	f.resumesAfter(1)
	f.compareAtRandom(f.start(), "db", 60)
}

// resumesAfter checks that the store begins above an LSN: something was durable.
func (f *fixture) resumesAfter(lsn logcore.LSN) {
	f.t.Helper()
	var from logcore.LSN
	watched := &watchedSource{Source: f.source, followed: func(at logcore.LSN) { from = at }}
	opts := Options(f.dir, watched, f.e.Decoder)
	s := Start(f.t, opts)
	if _, err := s.WaitLSN(f.t.Context(), "db", pageserver.ReadAt{LSN: f.source.Last(), Wait: patience.Max}); err != nil {
		f.t.Fatal(err)
	}
	s.Stop(f.t)
	if from <= lsn+1 {
		f.t.Fatalf("the page server began again at LSN %d: nothing of six runs was durable", from)
	}
	f.t.Logf("resumed at LSN %d of %d", from, f.source.Last())
}

// killOnce kills a child some time after it began to ingest.
func (f *fixture) killOnce(seed uint64, after time.Duration) {
	t := f.t
	t.Helper()
	name := strings.Split(t.Name(), "/")
	for i := range name {
		name[i] = "^" + name[i] + "$"
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(name, "/"), "-test.v")
	cmd.Env = append(os.Environ(), childDir+"="+f.dir, childSeed+"="+strconv.FormatUint(seed, 10))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ready := bufio.NewScanner(out), false
	for !ready && lines.Scan() {
		ready = strings.HasPrefix(lines.Text(), "ingesting")
	}
	time.Sleep(after)
	cmd.Process.Kill()
	err = cmd.Wait()
	if !ready || err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child did not end by SIGKILL while it was ingesting: ready %v, %v", ready, err)
	}
}

func ingestUntilKilled(t *testing.T, e Engine, dir string) {
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	source := killSource(e, seed)
	source.Pause = 500 * time.Microsecond
	s := Start(t, coldOptions(t, filepath.Clean(dir), source, e))
	fmt.Println("ingesting")
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: source.Last(), Wait: patience.Max}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(patience.Max) // the parent kills this process
}

// watchedSource tells where the page server begins to follow.
type watchedSource struct {
	*Source
	followed func(from logcore.LSN)
}

func (w *watchedSource) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	w.followed(from)
	return w.Source.Follow(ctx, log, from)
}
