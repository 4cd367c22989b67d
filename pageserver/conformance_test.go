package pageserver_test

import (
	"testing"

	"github.com/logcore/logcore/engine/enginetest"
)

func TestConformance(t *testing.T) { enginetest.Run(t, enginetest.PagesEngine()) }

// TestSyntheticConformance has every operation: redo, groups, objects, decoder state.
func TestSyntheticConformance(t *testing.T) {
	enginetest.Run(t, enginetest.SyntheticEngine())
}
