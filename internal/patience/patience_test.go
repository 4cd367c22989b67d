package patience_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/patience"
)

// failing is a test that may fail.
type failing struct {
	testing.TB
	failed string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestWhatComes(t *testing.T) {
	c := make(chan int, 1)
	c <- 7
	if got := patience.Receive(t, "a number", c); got != 7 {
		t.Errorf("received %d", got)
	}
	close(c)
	if got := patience.Receive(t, "the end", c); got != 0 {
		t.Errorf("received %d of a closed channel", got)
	}
	want := errors.New("an error")
	if err := patience.Return(t, "an error", func() error { return want }); err != want {
		t.Errorf("returned %v", err)
	}
}

// TestWhatHangs: the test fails, and says what it waited for and where everybody is.
func TestWhatHangs(t *testing.T) {
	defer func(was time.Duration) { patience.Max = was }(patience.Max)
	patience.Max = time.Millisecond
	f, ended, hang := &failing{TB: t}, make(chan struct{}), make(chan struct{})
	defer close(hang)
	go func() {
		defer close(ended)
		patience.Return(f, "the stop", func() error { whereItHangs(hang); return nil })
	}()
	<-ended
	if !strings.Contains(f.failed, "the stop") || !strings.Contains(f.failed, "whereItHangs") {
		t.Errorf("failed with %q", f.failed)
	}
}

//go:noinline
func whereItHangs(c chan struct{}) { <-c }
