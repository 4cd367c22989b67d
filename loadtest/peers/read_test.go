package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"testing"
)

// Every way reads everything, and the lines hold all of them.
func TestReads(t *testing.T) {
	for _, payload := range payloads {
		lines, err := measureReads(context.Background(), filepath.Join(t.TempDir(), "log"), payload, 2, 3<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) != 7 {
			t.Fatalf("%d lines", len(lines))
		}
		for _, l := range lines {
			if l.Rounds != 2 || l.OpsPerS <= 0 || l.LimitRatio <= 0 || l.PageCacheRatio <= 0 || l.ByFrameRatio <= 0 {
				t.Errorf("%+v", l)
			}
		}
	}
}

// What is scanned before the first append is the open segment, however much is sealed.
func TestOpens(t *testing.T) {
	var out bytes.Buffer
	if err := measureOpens(context.Background(), t.TempDir(), []int{1, 2}, 1, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	dec, lines := json.NewDecoder(&out), 0
	for ; dec.More(); lines++ {
		var l openLine
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if l.ScannedBytes < openTailBytes || l.ScannedBytes > openTailBytes+4096 || l.MS <= 0 || l.Segments != 8*l.GiB {
			t.Errorf("%+v", l)
		}
	}
	if lines != 2 {
		t.Fatalf("%d lines", lines)
	}
}
