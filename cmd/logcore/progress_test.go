package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestBarText(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		drawn      bool
		done, from int64
		total      int64
		took       time.Duration
		want       string
	}{
		{true, 0, 0, 100 * mib, 0, "restore [------------------------]   0 %  0.0 MiB of 100.0 MiB"},
		{true, 50 * mib, 0, 100 * mib, 5 * time.Second, "restore [############------------]  50 %  50.0 MiB of 100.0 MiB, 10.0 MiB/s, 5s left"},
		{false, 75 * mib, 25 * mib, 100 * mib, 5 * time.Second, "restore  75 %  75.0 MiB of 100.0 MiB, 10.0 MiB/s, 3s left"},
		{true, 120 * mib, 0, 100 * mib, 0, "restore [########################] 100 %  100.0 MiB of 100.0 MiB"},
		{true, 5, 0, 0, time.Minute, "restore"},
	} {
		if got := barText("restore", test.drawn, test.done, test.total, test.from, test.took); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

// Where there is no terminal and nobody asked, a short restore says nothing and a long one
// leaves plain lines.
func TestSlowMeter(t *testing.T) {
	var out bytes.Buffer
	m := (&app{stdio: stdio{err: &out}}).newSlowMeter()
	for i := range int64(100) {
		m.bar("restore: rebuild", i, 100)
	}
	if out.Len() > 0 {
		t.Errorf("a short restore says %q", out.String())
	}
	m.shown = time.Now().Add(-progressSlowly)
	m.bar("restore: rebuild", 50, 100)
	if got := out.String(); !strings.HasPrefix(got, "restore: rebuild  50 %") || strings.ContainsAny(got, "\r\x1b[#") {
		t.Errorf("a long restore says %q", got)
	}
}
