package roles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/target"
)

// lifeOf runs a service over d, appends texts, archives them and stops it.
func lifeOf(t *testing.T, d DevDir, texts ...string) {
	t.Helper()
	r, c := dev(t, d)
	appendAll(t, c, texts...)
	c.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

func appendAll(t *testing.T, c *client.Client, texts ...string) {
	t.Helper()
	for _, text := range texts {
		appendOne(t, c, "l", text)
	}
	if _, err := c.Flush(testContext(t), "l"); err != nil {
		t.Fatal(err)
	}
}

// startFails starts a service that must not serve.
func startFails(t *testing.T, d DevDir, want error, text string) {
	t.Helper()
	r, err := StartDev(testContext(t), DevOptions{Dir: d, Listen: "127.0.0.1:0", Config: *config.DefaultLogService(), Logger: quiet()})
	if err == nil {
		t.Fatalf("it serves; stopped: %v", r.Stop())
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %v that says %q", err, want, text)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// restoreTo restores d's archive into a new directory.
func restoreTo(t *testing.T, d DevDir, name string) DevDir {
	t.Helper()
	keys, err := tiering.LoadKeyFile(d.Key)
	if err != nil {
		t.Fatal(err)
	}
	targets, err := OpenTargets(testContext(t), d.Targets, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer targets.Close()
	to := DevDir{Path: filepath.Join(t.TempDir(), name), Key: d.Key, Targets: d.Targets}
	if _, err := recovery.Restore(testContext(t), recovery.Options{Targets: targets.All, Keys: keys, To: to.Path, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	return to
}

// A hot tier put back from an older copy beside the archive of a newer one: it would
// acknowledge writes in the place of others that were acknowledged. It does not serve.
func TestOlderHotTierDoesNotServe(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	lifeOf(t, d, "old")
	backup := filepath.Join(t.TempDir(), "backup")
	copyDir(t, d.LogServiceDir(), backup)
	lifeOf(t, d, "new", "newer", "newest")
	if err := os.RemoveAll(d.LogServiceDir()); err != nil {
		t.Fatal(err)
	}
	copyDir(t, backup, d.LogServiceDir())
	for range 3 {
		startFails(t, d, tiering.ErrDiverged, "logcore restore")
	}
}

// One archive restored twice, and its first service still there: only the one that was
// started first after the restore serves and is not disturbed.
func TestRestoredTwice(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	lifeOf(t, d, "x")
	one, two := restoreTo(t, d, "one"), restoreTo(t, d, "two")
	_, c := dev(t, one)
	for range 3 {
		startFails(t, two, logcore.ErrFenced, "another incarnation")
	}
	appendAll(t, c, "y")
	for range 3 {
		startFails(t, d, logcore.ErrFenced, "another incarnation")
	}
	appendAll(t, c, "z")
	if st, err := c.Status(testContext(t)); err != nil || !st.Healthy {
		t.Errorf("status %+v, %v", st, err)
	}
}

// A service that died over and over right after it had claimed the archive leaves many
// claims: what is restored from its archive starts at once.
func TestRestoredAfterManyDeaths(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	lifeOf(t, d, "x")
	for range 4 {
		r, c := dev(t, d)
		c.Close()
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	_, c := dev(t, restoreTo(t, d, "restored"))
	appendAll(t, c, "y")
}

// Empty directories in the place of targets, at a start: they get no marker and nothing
// else, and what was there before takes part again when it is back.
func TestEmptyDirectoriesInThePlaceOfTargets(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	lifeOf(t, d, "x")
	away := filepath.Join(t.TempDir(), "away")
	names := []string{"a1", "a2", "b1", "b2"}
	for _, name := range names {
		place := filepath.Join(d.Path, "targets", name)
		if err := errors.Join(os.MkdirAll(away, 0o700), os.Rename(place, filepath.Join(away, name)), os.Mkdir(place, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	_, c := dev(t, d)
	appendOne(t, c, "l", "y")
	ctx := testContext(t)
	st, err := c.Status(ctx)
	if err != nil || st.Healthy || !strings.Contains(strings.Join(st.Problems, "\n"), "without the marker") {
		t.Errorf("status %+v, %v", st, err)
	}
	for _, name := range names {
		place := filepath.Join(d.Path, "targets", name)
		if left, err := os.ReadDir(place); err != nil || len(left) != 0 {
			t.Errorf("%d files were written to a stranger, %v", len(left), err)
		}
		if err := errors.Join(os.Remove(place), os.Rename(filepath.Join(away, name), place)); err != nil {
			t.Fatal(err)
		}
	}
	appendAll(t, c, "z")
	for st.Healthy = false; !st.Healthy; {
		if st, err = c.Status(ctx); err != nil {
			t.Fatalf("%v; the last status was %+v", err, st)
		}
		time.Sleep(50 * time.Millisecond) // until ctx ends
	}
}

// A first start that was cut short, after some of the targets were marked: the next
// one marks the others.
func TestFirstStartCutShort(t *testing.T) {
	d := prepare(t, filepath.Join(t.TempDir(), "lc"))
	id := cluster.NewID()
	if err := errors.Join(os.MkdirAll(d.LogServiceDir(), 0o700), cluster.Write(d.LogServiceDir(), cluster.Identity{ID: id})); err != nil {
		t.Fatal(err)
	}
	one, err := target.Open(testContext(t), d.Targets[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := target.WriteMarker(testContext(t), one.Bucket, markerOf(id, one.Name)); err != nil {
		t.Fatal(err)
	}
	lifeOf(t, d, "x")
	identity, err := cluster.ReadIdentity(d.LogServiceDir())
	if err != nil || identity != (cluster.Identity{ID: id, Marked: true}) {
		t.Errorf("identity %+v, %v", identity, err)
	}
	for _, url := range d.Targets {
		one, err := target.Open(testContext(t), url)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := target.ReadMarker(testContext(t), one.Bucket); err != nil || m != markerOf(id, one.Name) {
			t.Errorf("%s: marker %+v, %v", one.Name, m, err)
		}
	}
}
