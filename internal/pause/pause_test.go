package pause_test

import (
	"context"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/pause"
)

func TestFor(t *testing.T) {
	if !pause.For(t.Context(), time.Millisecond) {
		t.Error("it did not wait")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if pause.For(ctx, time.Hour) {
		t.Error("it waited although the context was done")
	}
}
