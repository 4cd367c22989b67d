package pageserver_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/pageserver"
)

// TestCloseEndsWaiting: who waits for an LSN that a page server will not have any more, as
// when a store's stripes were given up, hears it at once and asks elsewhere.
func TestCloseEndsWaiting(t *testing.T) {
	source := enginetest.NewSource(1)
	source.Create("db")
	for _, payload := range enginetest.PagesHistory(rand.New(rand.NewPCG(1, 1)), 1)[0].Parts {
		source.AppendTx("db", enginetest.Transaction{Parts: [][]byte{payload}})
	}
	s := enginetest.Start(t, enginetest.Options(t.TempDir(), source, enginetest.PagesEngine().Decoder))
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: source.Last(), Wait: time.Minute}); err != nil {
		t.Fatal(err)
	}
	const readers = 8
	ended := make(chan error, readers)
	for range readers {
		go func() {
			_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: source.Last() + 1000, Wait: time.Hour})
			ended <- err
		}()
	}
	s.Stop(t)
	for range readers {
		if err := <-ended; !errors.Is(err, logcore.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
}
