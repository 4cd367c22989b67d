package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// comparisonsVariable names the environment variable that says how many pages Soak
// compares, in place of what the test says.
const comparisonsVariable = "LOGCORE_PAGE_COMPARISONS"

// Soak compares at least so many pages at random LSNs with a plain replay that keeps
// everything, while logs grow and branch and the page server is restarted, at times on an
// empty directory. The pages are those of every space that the log ever had, and a few
// beyond each one's end; lengths, lists and objects are compared along with them.
func Soak(t *testing.T, e Engine, comparisons int) {
	if v := os.Getenv(comparisonsVariable); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("%s: %v", comparisonsVariable, err)
		}
		comparisons = n
	}
	const (
		lsnsApiece  = 40 // of a log in a round
		logsApiece  = 3  // in a round
		logsMax     = 12
		entriesMost = 6000 // of a source; then another one begins
	)
	total, at, rebuilt, restarted, sources := 0, 0, 0, 0, 0
	for total < comparisons {
		f := newFixture(t, e, 150)
		sources++
		s, logs := f.start(), []string{"db"}
		for total < comparisons && len(f.source.Entries("db")) < entriesMost {
			if len(logs) < logsMax && f.rng.IntN(3) == 0 {
				logs = append(logs, f.branchAt(s, logs[f.rng.IntN(len(logs))], fmt.Sprint("branch/", len(logs))))
			}
			for range logsApiece {
				f.append(logs[f.rng.IntN(len(logs))], 30)
			}
			if f.rng.IntN(3) == 0 {
				s.Stop(t)
				restarted++
				if f.rng.IntN(4) == 0 {
					rebuilt++
					if err := os.RemoveAll(filepath.Join(f.dir, "store")); err != nil {
						t.Fatal(err)
					}
				}
				s = f.start()
			}
			for range logsApiece {
				total += f.compareAscending(s, logs[f.rng.IntN(len(logs))], lsnsApiece)
				at += lsnsApiece
			}
		}
		s.Stop(t)
	}
	t.Logf("%d pages compared at %d LSNs of %d histories; %d restarts, %d of them on an empty store", total, at, sources, restarted, rebuilt)
}

// branchAt creates a branch of a log at a random LSN and returns its name.
func (f *fixture) branchAt(s *Subject, parent, name string) string {
	f.t.Helper()
	lsn := 1 + logcore.LSN(f.rng.Uint64N(uint64(f.source.Last())))
	if _, _, err := s.CreateBranch(f.t.Context(), parent, name, pageserver.ReadAt{LSN: lsn, Wait: patience.Max}); err != nil {
		f.t.Fatal(err)
	}
	return name
}

// compareAscending compares at random LSNs of a log, the replay going forward once. It
// returns the number of pages compared.
func (f *fixture) compareAscending(s *Subject, log string, lsns int) int {
	f.t.Helper()
	entries, spaces := f.source.Entries(log), f.spaces(log)
	points := make([]logcore.LSN, lsns)
	for i := range points {
		points[i] = 1 + logcore.LSN(f.rng.Uint64N(uint64(f.source.Last())))
	}
	points[0] = f.source.Last()
	slices.Sort(points)
	replay, compared := NewReplayer(f.e.Decoder), 0
	for _, lsn := range points {
		n, err := compareWith(f.t.Context(), s.Server, f.source, log, lsn, spaces, func(logcore.LSN) (*State, error) {
			for len(entries) > 0 && entries[0].LSN <= lsn {
				if err := replay.Entry(&entries[0]); err != nil {
					return nil, err
				}
				entries = entries[1:]
			}
			return replay.State, nil
		})
		if err != nil {
			f.t.Fatal(err)
		}
		compared += n
	}
	return compared
}
