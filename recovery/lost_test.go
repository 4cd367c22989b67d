package recovery_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// archived returns the names of the archive's objects as they are in fragment keys, in
// the order of their first LSN.
func (w *world) archived() (names []string) {
	w.t.Helper()
	for _, path := range w.fragments("a1", "") {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fragments returns the files of an object's fragments on a target; "" is every object.
func (w *world) fragments(target, name string) (paths []string) {
	w.t.Helper()
	err := filepath.WalkDir(filepath.Join(w.root, "targets", target), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "/fragment/") && strings.HasPrefix(filepath.Base(path), name) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return paths
}

func lsnsOf(t *testing.T, name string) (first, last logcore.LSN) {
	t.Helper()
	if _, err := fmt.Sscanf(name, "%x-%x-", &first, &last); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return first, last
}

// Every range that is gone is in the report, not only the first one: those that touch
// and lack the same fragments as one.
func TestEveryLossIsNamed(t *testing.T) {
	w := newWorld(t)
	w.maxAge = time.Hour
	w.start(w.dir, w.urls)
	for range 6 {
		w.write("orders", 2, 1000)
		w.flush()
	}
	w.stop()
	objects := w.archived()
	if len(objects) < 6 {
		t.Fatalf("objects %v, want 6 at least", objects)
	}
	for _, i := range []int{1, 3, 4} {
		for _, target := range []string{"a1", "b1", "c1"} {
			for _, path := range w.fragments(target, objects[i]) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	report, err := recovery.Restore(ctx, w.options("restored"))
	if !errors.Is(err, tiering.ErrTooFewFragments) {
		t.Fatalf("error %v", err)
	}
	var want []recovery.Loss
	for _, l := range [][2]int{{1, 1}, {3, 4}} {
		first, _ := lsnsOf(t, objects[l[0]])
		_, last := lsnsOf(t, objects[l[1]])
		want = append(want, recovery.Loss{First: first, Last: last, Objects: 1 + l[1] - l[0]})
	}
	got := slices.Clone(report.Lost)
	for i := range got {
		if !strings.Contains(got[i].Reason, "4 fragments are needed, 3 are good") {
			t.Errorf("reason %q", got[i].Reason)
		}
		got[i].Reason = ""
	}
	if !slices.Equal(got, want) {
		t.Errorf("lost %+v, want %+v", got, want)
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"restored     nothing", fmt.Sprintf("lost         LSN %d to %d:", want[0].First, want[0].Last), fmt.Sprintf("lost         LSN %d to %d:", want[1].First, want[1].Last), "first of 2 objects"} {
		if !strings.Contains(text.String(), s) {
			t.Errorf("the report does not say %q:\n%s", s, &text)
		}
	}
}

// What BeforePublish writes is there when the service is, and its error keeps the service
// from appearing.
func TestBeforePublish(t *testing.T) {
	w := newWorld(t)
	w.start(w.dir, w.urls)
	w.write("orders", 2, 1000)
	w.flush()
	w.stop()
	opts := w.options("restored")
	service := filepath.Join(opts.To, "logsvc")
	full := errors.New("no room for the file")
	calls := 0
	opts.BeforePublish = func(r recovery.Report) error {
		calls++
		if _, err := os.Stat(service); !errors.Is(err, fs.ErrNotExist) || r.LastLSN == 0 {
			t.Errorf("called with %v there, restored to %d", err, r.LastLSN)
		}
		return full
	}
	if _, err := recovery.Restore(ctx, opts); !errors.Is(err, full) {
		t.Errorf("got %v, want its error", err)
	}
	if _, err := os.Stat(service); !errors.Is(err, fs.ErrNotExist) || calls != 1 {
		t.Errorf("%d calls; the service appeared all the same: %v", calls, err)
	}
	full = nil
	if _, err := recovery.Restore(ctx, opts); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(service); err != nil {
		t.Error(err)
	}
}
