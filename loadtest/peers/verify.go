package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
)

// verifyEntries is how many entries a peer must give back before it is measured.
const verifyEntries = 1000

// verifyPayload is entry i's payload: its own bytes, and every payload size in turn.
func verifyPayload(i int) []byte {
	sizes := [...]int{128, 1 << 10, 8 << 10, 100, 1}
	return payloadOf(sizes[i%len(sizes)], uint64(i)+100)
}

// verify writes verifyEntries entries through each way the peer offers, closes it,
// reopens it and compares. It leaves nothing in dir.
func verify(p peer, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, discard(dir)) }()
	log, err := p.open(dir)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = writeEntries(log, p.apis)
	if err := errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return readEntries(p, dir)
}

func writeEntries(log appendLog, apis []api) error {
	next := 0
	if slices.Contains(apis, async) {
		// The callbacks check their order. Only the committer touches acked until
		// the last one closes all.
		acked, all := 0, make(chan error, 1)
		n := verifyEntries / 2
		var failed error
		for ; next < n; next++ {
			i := next
			done := func(err error) {
				if err == nil && acked != i {
					err = fmt.Errorf("entry %d was acknowledged as number %d", i, acked)
				}
				failed = errors.Join(failed, err)
				if acked++; acked == n {
					all <- failed
				}
			}
			if err := log.Submit(verifyPayload(i), done); err != nil {
				return err
			}
		}
		if err := <-all; err != nil {
			return err
		}
	}
	if log, ok := log.(batchAppendLog); ok {
		if err := enqueueEntries(log, next, next+verifyEntries/4); err != nil {
			return err
		}
		next += verifyEntries / 4
	}
	appendOne := log.Appender()
	for ; next < verifyEntries; next++ {
		if err := appendOne(verifyPayload(next)); err != nil {
			return err
		}
	}
	return nil
}

// enqueueEntries writes entries [from, to) in calls of 1, 2, 3 … payloads. Completions
// must not run ahead of what was enqueued, and must come to all of it.
func enqueueEntries(log batchAppendLog, from, to int) error {
	var enqueued, completed atomic.Int64
	all, total := make(chan error, 1), int64(to-from)
	log.Completions(func(n int, err error) {
		done := completed.Add(int64(n))
		if err == nil && done > enqueued.Load() {
			err = fmt.Errorf("%d completions for %d appends", done, enqueued.Load())
		}
		if err != nil || done == total {
			select {
			case all <- err:
			default:
			}
		}
	})
	for size := 1; from < to; size++ {
		var payloads [][]byte
		for ; len(payloads) < size && from < to; from++ {
			payloads = append(payloads, verifyPayload(from))
		}
		enqueued.Add(int64(len(payloads)))
		if err := log.Enqueue(payloads); err != nil {
			return err
		}
	}
	return <-all
}

func readEntries(p peer, dir string) error {
	n := 0
	var wrong error
	err := p.read(dir, func(payload []byte) {
		if wrong == nil && !bytes.Equal(payload, verifyPayload(n)) {
			wrong = fmt.Errorf("entry %d of %d came back different", n, verifyEntries)
		}
		n++
	})
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if wrong == nil && n != verifyEntries {
		wrong = fmt.Errorf("%d entries came back of %d acknowledged", n, verifyEntries)
	}
	return wrong
}
