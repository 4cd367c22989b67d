package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// memoryPeer keeps its entries in memory and passes them through spoil when they are
// read.
func memoryPeer(spoil func([][]byte) [][]byte, wrap func(*driver) appendLog) peer {
	var kept [][]byte
	return peer{
		name: "memory", apis: []api{async, blocking},
		open: func(string) (appendLog, error) {
			kept = nil
			return wrap(newDriver(&countingFile{keep: func(p []byte) { kept = append(kept, bytes.Clone(p)) }})), nil
		},
		read: func(_ string, visit func([]byte)) error {
			for _, p := range spoil(kept) {
				visit(p)
			}
			return nil
		},
	}
}

// swapped acknowledges every second append before the one that came first.
type swapped struct {
	*driver
	held func(error)
}

func (s *swapped) Submit(payload []byte, done func(error)) error {
	if s.held == nil {
		s.held = done
		return s.driver.Submit(payload, func(error) {})
	}
	first := s.held
	s.held = nil
	return s.driver.Submit(payload, func(err error) { done(err); first(err) })
}

func TestVerifyCatchesLoss(t *testing.T) {
	same := func(k [][]byte) [][]byte { return k }
	plain := func(d *driver) appendLog { return d }
	for name, c := range map[string]struct {
		spoil func([][]byte) [][]byte
		wrap  func(*driver) appendLog
		want  string
	}{
		"honest":       {same, plain, ""},
		"last lost":    {func(k [][]byte) [][]byte { return k[:len(k)-1] }, plain, "999 entries came back"},
		"one lost":     {func(k [][]byte) [][]byte { return slices.Delete(slices.Clone(k), 500, 501) }, plain, "entry 500"},
		"one too many": {func(k [][]byte) [][]byte { return append(slices.Clone(k), k[0]) }, plain, "different"},
		"two swapped":  {func(k [][]byte) [][]byte { k[10], k[15] = k[15], k[10]; return k }, plain, "entry 10"},
		"bit flipped":  {func(k [][]byte) [][]byte { k[998][0] ^= 1; return k }, plain, "entry 998"},
		"out of order": {same, func(d *driver) appendLog { return &swapped{driver: d} }, "acknowledged as"},
	} {
		err := verify(memoryPeer(c.spoil, c.wrap), filepath.Join(t.TempDir(), "v"))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
