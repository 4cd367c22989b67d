package hotlog

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// hungryDir is a medium in a process whose descriptors others take as soon as there is one.
type hungryDir struct {
	media.Dir
	hungry  *atomic.Bool
	refused *atomic.Int64
}

func (d hungryDir) Create(name string, size int64) (media.File, error) {
	if d.hungry.Load() {
		d.refused.Add(1)
		return nil, fmt.Errorf("create %s: %w", name, syscall.EMFILE)
	}
	return d.Dir.Create(name, size)
}

func (d hungryDir) Open(name string) (media.File, error) {
	if d.hungry.Load() {
		d.refused.Add(1)
		return nil, fmt.Errorf("open %s: %w", name, syscall.EMFILE)
	}
	return d.Dir.Open(name)
}

// refusedAgain waits until n more files could not be opened, or the log is poisoned.
func (d hungryDir) refusedAgain(n int64, l *Log) {
	for end := d.refused.Load() + n; d.refused.Load() < end && l.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
}

// A segment that was sealed gives its descriptor up. When another takes it, and there is
// none for the next segment either, the log waits for one: it is not poisoned, and goes
// on as soon as there is one.
func TestNoDescriptorBehindASeal(t *testing.T) {
	dir := hungryDir{simdisk.New(1), new(atomic.Bool), new(atomic.Int64)}
	opts := simOptions()
	l, _, err := openOn(context.Background(), dir, opts, openMode{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 15, 10, 5)
	for len(l.pooledNow()) < poolTarget { // the housekeeper fills it
		time.Sleep(time.Millisecond)
	}
	dir.hungry.Store(true)
	l.dir.CloseIdle()
	fill(t, l, 30, 10, 5) // the file in the pool was the last one
	dir.refusedAgain(5, l)
	if err := l.Err(); err != nil {
		t.Fatalf("without a descriptor: %v", err)
	}
	dir.hungry.Store(false)
	fill(t, l, 45, 10, 5)
	waitFinished(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// pooledNow returns the files that are ready.
func (l *Log) pooledNow() []poolFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]poolFile(nil), l.pool...)
}

// A segment that can't be opened to be checked, or to be finished, is checked and finished later.
func TestCheckerWaitsForDescriptors(t *testing.T) {
	disk := simdisk.New(1)
	dir := hungryDir{disk, new(atomic.Bool), new(atomic.Int64)}
	opts, told := simOptions(), newFound()
	opts.OnDamage, opts.CacheBytes = told.add, 1
	l, _, err := openOn(context.Background(), dir, opts, openMode{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 45, 10, 5)
	waitFinished(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, _, err = openOn(context.Background(), dir, opts, openMode{inline: true}); err != nil {
		t.Fatal(err)
	}
	s := (*l.view.Load())[1]
	s.finished, s.checked = false, false // as after a crash between the SEAL and the footer
	disk.Corrupt((*l.view.Load())[2].name, func(data []byte) { data[segment.FramesOffset+1000] ^= 1 })
	dir.hungry.Store(true)
	l.dir.CloseIdle()
	l.checkSealed()
	if dir.refused.Load() == 0 {
		t.Fatal("void: all files were open")
	}
	dir.hungry.Store(false)
	l.checkSealed()
	if c := told.wait(t, 1)[0]; c.LSN < 21 || c.LSN > logcore.LSN(30) {
		t.Errorf("told of %+v", c)
	}
	if !s.finished || s.unfinishable {
		t.Errorf("finished %v, given up %v", s.finished, s.unfinishable)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
