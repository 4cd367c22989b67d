package pageserver_test

import (
	"testing"

	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/pageserver"
)

func TestConformance(t *testing.T) { enginetest.Run(t, enginetest.PagesEngine()) }

// TestSyntheticConformance has every operation: redo, groups, objects, decoder state.
func TestSyntheticConformance(t *testing.T) {
	enginetest.Run(t, enginetest.SyntheticEngine())
}

// TestPageComparisons makes 100,000 comparisons of a page at an LSN with the plain replay;
// make test-pageserver-full makes a million of each kind.
func TestPageComparisons(t *testing.T) {
	t.Run("pages", func(t *testing.T) { enginetest.Soak(t, enginetest.PagesEngine(), 40_000) })
	t.Run("synthetic", func(t *testing.T) { enginetest.Soak(t, enginetest.SyntheticEngine(), 60_000) })
}

// TestWrittenBeside is the same with every set of keys written by another goroutine, which
// otherwise only large ones are.
func TestWrittenBeside(t *testing.T) {
	defer pageserver.WriteBeside()()
	t.Run("pages", func(t *testing.T) { enginetest.Soak(t, enginetest.PagesEngine(), 10_000) })
	t.Run("synthetic", func(t *testing.T) { enginetest.Soak(t, enginetest.SyntheticEngine(), 10_000) })
}
