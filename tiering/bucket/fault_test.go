package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

func TestFaultSelects(t *testing.T) {
	f := bucket.NewFaults(mem.New())
	ctx := t.Context()
	rule := f.Add(bucket.Fault{Op: bucket.OpPut, Key: "a/*/x*", From: 2, Count: 2, Effect: bucket.Fail(nil)})
	var failed []string
	for _, key := range []string{"a/1/x1", "b/1/x", "a/2/y", "a/2/3/x2", "a/3/x", "a/4/x", "a/x"} {
		if err := f.PutIfAbsent(ctx, key, []byte(key)); err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) || bucket.IsPermanent(err) {
				t.Errorf("%s: %v", key, err)
			}
			failed = append(failed, key)
		}
	}
	if want := []string{"a/2/3/x2", "a/3/x"}; !slices.Equal(failed, want) || rule.Hits() != 2 {
		t.Fatalf("failed: %v, want %v; %d hits", failed, want, rule.Hits())
	}
	if _, err := f.Get(ctx, "a/1/x1", 0, -1); err != nil {
		t.Errorf("another operation is hit: %v", err)
	}
	down := f.Down()
	if _, err := f.Head(ctx, "a/1/x1"); !errors.Is(err, bucket.ErrGone) || down.Hits() != 1 {
		t.Errorf("down: %v", err)
	}
	f.Up()
	if _, err := f.Head(ctx, "a/1/x1"); err != nil {
		t.Errorf("up: %v", err)
	}
	if f.Count(bucket.OpPut) != 7 || f.Count(bucket.OpHead) != 2 || f.Count(bucket.OpAny) != 10 || len(f.Calls()) != 10 {
		t.Errorf("counted %d puts, %d heads, %d calls", f.Count(bucket.OpPut), f.Count(bucket.OpHead), f.Count(bucket.OpAny))
	}
}

// The fault added last is used, and only it counts as a hit.
func TestFaultNewestWins(t *testing.T) {
	f := bucket.NewFaults(mem.New())
	older := f.Add(bucket.Fault{Effect: bucket.Fail(bucket.ErrFull)})
	newer := f.Add(bucket.Fault{Count: 1, Effect: bucket.Fail(bucket.ErrDenied)})
	if err := f.Delete(t.Context(), "k"); !errors.Is(err, bucket.ErrDenied) || older.Hits() != 0 || newer.Hits() != 1 {
		t.Errorf("%v, hits %d and %d", err, older.Hits(), newer.Hits())
	}
	if err := f.Delete(t.Context(), "k"); !errors.Is(err, bucket.ErrFull) || older.Hits() != 1 {
		t.Errorf("%v, %d hits", err, older.Hits())
	}
}

func TestFaultEffects(t *testing.T) {
	data := []byte("0123456789")
	ctx := t.Context()
	put := func(e bucket.Effect) (stored []byte, err error) {
		inside := mem.New()
		f := bucket.NewFaults(inside)
		f.Add(bucket.Fault{Op: bucket.OpPut, Effect: e})
		err = f.PutIfAbsent(ctx, "k", data)
		stored, _ = inside.Get(ctx, "k", 0, -1)
		return stored, err
	}
	if stored, err := put(bucket.Fail(nil)); stored != nil || err == nil {
		t.Errorf("lost put: %q, %v", stored, err)
	}
	if stored, err := put(bucket.DoneButLost(nil)); !bytes.Equal(stored, data) || err == nil {
		t.Errorf("stored but reported lost: %q, %v", stored, err)
	}
	if stored, err := put(bucket.HalfPut(nil)); !bytes.Equal(stored, data[:5]) || err != nil {
		t.Errorf("half put: %q, %v", stored, err)
	}
	if stored, err := put(bucket.HalfPut(io.ErrClosedPipe)); !bytes.Equal(stored, data[:5]) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("half put with an error: %q, %v", stored, err)
	}
	if stored, err := put(bucket.PutNothing()); stored != nil || err != nil {
		t.Errorf("nothing put: %q, %v", stored, err)
	}

	get := func(e bucket.Effect) ([]byte, error) {
		f := bucket.NewFaults(mem.New())
		if err := errors.Join(f.PutIfAbsent(ctx, "k", data), f.PutIfAbsent(ctx, "other", []byte("another object"))); err != nil {
			t.Fatal(err)
		}
		f.Add(bucket.Fault{Op: bucket.OpGet, Count: 1, Effect: e})
		got, err := f.Get(ctx, "k", 0, -1)
		if again, err := f.Get(ctx, "k", 0, -1); err != nil || !bytes.Equal(again, data) {
			t.Errorf("the object itself was changed: %q, %v", again, err)
		}
		return got, err
	}
	if got, err := get(bucket.WrongBytes(8*3 + 2)); err != nil || len(got) != len(data) || bits.OnesCount8(got[3]^data[3]) != 1 {
		t.Errorf("wrong bytes: %q, %v", got, err)
	}
	if got, err := get(bucket.WrongObject("other")); err != nil || string(got) != "another ob" {
		t.Errorf("wrong object: %q, %v", got, err)
	}
	if got, err := get(bucket.ShortRead()); err != nil || !bytes.Equal(got, data[:5]) {
		t.Errorf("short read: %q, %v", got, err)
	}
}

func TestFaultStaleList(t *testing.T) {
	f := bucket.NewFaults(mem.New())
	ctx := t.Context()
	list := func() (keys []string) {
		if err := f.List(ctx, "", "", func(a bucket.Attributes) bool { keys = append(keys, a.Key); return true }); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	f.PutIfAbsent(ctx, "old", nil)
	f.Add(bucket.Fault{Op: bucket.OpList, Effect: bucket.StaleList()})
	f.PutIfAbsent(ctx, "new", nil)
	f.PutIfAbsent(ctx, "old", nil) // again, with equal bytes
	if got := list(); !slices.Equal(got, []string{"old"}) {
		t.Errorf("stale: %v", got)
	}
	f.Up()
	if got := list(); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("fresh: %v", got)
	}
}

func TestFaultTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := bucket.NewFaults(mem.New())
		f.Add(bucket.Fault{Op: bucket.OpPut, Effect: bucket.Slow(time.Minute)})
		f.Add(bucket.Fault{Op: bucket.OpGet, Effect: bucket.Hang()})
		began := time.Now()
		if err := f.PutIfAbsent(t.Context(), "k", nil); err != nil || time.Since(began) != time.Minute {
			t.Errorf("slow: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Get(ctx, "k", 0, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hang: %v", err)
		}
		if err := f.PutIfAbsent(ctx, "l", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow past the deadline: %v", err)
		}
	})
}
