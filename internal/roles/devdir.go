package roles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
	"github.com/logcore/logcore/tiering/target"
)

// The directory of a development service.
const (
	devKey        = "key"
	devTargets    = "targets"
	devPageServer = "pageserver"
)

// devTargetNames are the six local targets; the first letter is the provider, so each
// of the three stands for a cloud that holds two fragments.
var devTargetNames = []string{"a1", "a2", "b1", "b2", "c1", "c2"}

// DevDir is the directory of a development service.
type DevDir struct {
	Path string
	// Key is the path of the key file.
	Key string
	// Targets are the URLs of the archive's targets.
	Targets []string
	// Fresh is set when this call made the directory's key and targets.
	Fresh bool
}

// LogServiceDir is where the log service lives.
func (d DevDir) LogServiceDir() string { return filepath.Dir(d.ShardDir(0)) }

// ShardDir is where the hot log of a shard lies.
func (d DevDir) ShardDir(shard logcore.ShardID) string { return recovery.ShardDir(d.Path, shard) }

// Shards returns the shards that have a hot log in the directory, in order.
func (d DevDir) Shards() (shards []logcore.ShardID) {
	for i := range node.PresentShards(d.LogServiceDir()) {
		if has, err := holdsFiles(d.ShardDir(logcore.ShardID(i))); has || err != nil { // what can't be listed is for whoever reads it
			shards = append(shards, logcore.ShardID(i))
		}
	}
	return shards
}

// MissingShards returns the shards that have no hot log in the directory and should: there are higher ones, or the cluster's
// archive has them.
func (d DevDir) MissingShards(ctx context.Context, targets *Targets) (missing []logcore.ShardID) {
	have := d.Shards()
	want := node.PresentShards(d.LogServiceDir())
	if identity, err := cluster.ReadIdentity(d.LogServiceDir()); err == nil {
		if _, archived, err := tiering.Shards(ctx, targets.All, identity.ID); err == nil {
			want = max(want, int(archived[len(archived)-1])+1)
		}
	}
	for i := range want {
		if !slices.Contains(have, logcore.ShardID(i)) {
			missing = append(missing, logcore.ShardID(i))
		}
	}
	return missing
}

// PageServerDir is where the page versions lie.
func (d DevDir) PageServerDir() string { return filepath.Join(d.Path, devPageServer) }

// OpenDevDir reads what the directory says about itself and makes nothing.
func OpenDevDir(path string) (DevDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return DevDir{}, err
	}
	file := filepath.Join(abs, config.DevFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return DevDir{}, fmt.Errorf("%s holds no LogCore service (there is no %s): %w", path, config.DevFile, fs.ErrNotExist)
	}
	var cfg config.Dev
	if err := config.Load(&cfg, file, func(string) string { return "" }, nil); err != nil {
		return DevDir{}, err
	}
	if !filepath.IsAbs(cfg.Key) {
		cfg.Key = filepath.Join(abs, cfg.Key)
	}
	d := DevDir{Path: abs, Key: cfg.Key}
	d.Targets, err = changedTargets(d.LogServiceDir(), cfg.Targets)
	return d, err
}

// PrepareDevDir opens the directory, or makes it with a key and targets when it is
// new. targets replaces what the directory says about its archive; empty keeps it,
// and a new directory gets six local ones.
//
// Only a new directory gets targets made: later a missing one is a lost cloud, which
// must not come back empty and be taken for the archive.
func PrepareDevDir(ctx context.Context, path string, targets []string) (DevDir, error) {
	d, err := OpenDevDir(path)
	if err == nil {
		if len(targets) > 0 {
			d.Targets = targets
			err = replaceTargets(ctx, d)
		}
		return d, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return DevDir{}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return DevDir{}, err
	}
	d = DevDir{Path: abs, Key: filepath.Join(abs, devKey), Targets: targets, Fresh: true}
	if identity, err := cluster.ReadIdentity(d.LogServiceDir()); err == nil && identity.Marked {
		return DevDir{}, exit.With(exit.Usage, forgotten(d, identity.ID))
	}
	specs, err := parseTargets(targets)
	if err != nil {
		return DevDir{}, err
	}
	if err := checkSpecs(specs); err != nil {
		return DevDir{}, exit.With(exit.Usage, err)
	}
	if err := onlyUnfinished(abs); err != nil {
		return DevDir{}, err
	}
	if err := durable.MkdirAll(abs, 0o700); err != nil {
		return DevDir{}, err
	}
	if len(d.Targets) == 0 {
		d.Targets = localTargets(abs)
	}
	if _, err := tiering.GenerateKeyFile(d.Key); err != nil && !errors.Is(err, fs.ErrExist) {
		return DevDir{}, err
	}
	own, err := cluster.Read(d.LogServiceDir()) // there is one after a restore to the past
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return DevDir{}, err
	}
	for _, url := range d.Targets {
		if err := checkOwner(ctx, url, own, target.Init); err != nil {
			return DevDir{}, err
		}
	}
	// Commit point: from here on the directory is a service's, and nothing is made again.
	return d, writeDevFile(d)
}

// checkSpecs checks the placement on targets that a new service was told; none = its own.
func checkSpecs(specs []target.Spec) error {
	if len(specs) == 0 {
		return nil
	}
	targets := make([]tiering.Target, len(specs))
	for i, s := range specs {
		targets[i] = tiering.Target{Name: s.Name, Provider: s.Provider}
	}
	return tiering.CheckPlacement(targets, erasure.DefaultK, erasure.DefaultM)
}

// forgotten says what to do about a directory whose service has an archive and which
// does not say where: a new key and new targets would leave that archive behind.
func forgotten(d DevDir, id cluster.ID) error {
	return fmt.Errorf("%s holds a service of cluster %v but not the file %s that names its archive's key and targets: put the file back (lines \"key: FILE\", \"targets:\" and \"  - URL\" for each), "+
		"or move %s away and run `logcore restore --to %s --key FILE --targets URL,...`", d.Path, id, config.DevFile, d.LogServiceDir(), d.Path)
}

// replaceTargets makes the directory say that its archive is on d.Targets. None may
// belong to another cluster; one that does not answer is a lost one.
func replaceTargets(ctx context.Context, d DevDir) error {
	own, err := cluster.Read(d.LogServiceDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, url := range d.Targets {
		err := checkOwner(ctx, url, own, target.Open)
		if errors.Is(err, errForeign) || errors.Is(err, bucket.ErrInvalid) {
			return err
		}
	}
	return writeDevFile(d)
}

// errForeign: a target is another cluster's.
var errForeign = errors.New("this archive is not ours")

// checkOwner opens a target and refuses one that another cluster has.
func checkOwner(ctx context.Context, url string, own cluster.ID, open func(context.Context, string) (target.Target, error)) error {
	t, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer t.Bucket.Close()
	m, err := target.ReadMarker(ctx, t.Bucket)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("target %s: %w", t.Name, err)
	case cluster.ID(m.Cluster) != own:
		return fmt.Errorf("%w: target %s belongs to cluster %v: to bring that cluster back run `logcore restore`; a new one, and one restored to the past, needs targets of its own", errForeign, t.Name, m.Cluster)
	}
	return nil
}

// onlyUnfinished refuses a directory with anything but what an interrupted
// PrepareDevDir or a restore leaves: someone else's files are not ours to mix with.
func onlyUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		if name == devKey || name == devTargets || name == "lost+found" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, name, cluster.FileName)); err != nil {
			return exit.Usagef("%s is no LogCore directory (there is no %s) and not empty (there is %q): give a new or empty one", dir, config.DevFile, name)
		}
	}
	return err
}

func localTargets(dir string) []string {
	urls := make([]string, len(devTargetNames))
	for i, name := range devTargetNames {
		u := url.URL{Scheme: "dir", Path: filepath.Join(dir, devTargets, name),
			RawQuery: "name=" + name + "&provider=" + name[:1] + "&region=local"}
		urls[i] = u.String()
	}
	return urls
}

func writeDevFile(d DevDir) error {
	cfg := config.Dev{Key: d.Key, Targets: d.Targets}
	if rel, err := filepath.Rel(d.Path, d.Key); err == nil && filepath.IsLocal(rel) {
		cfg.Key = rel
	}
	var b bytes.Buffer
	if err := config.Print(&b, &cfg); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(d.Path, config.DevFile), b.Bytes(), 0o600)
}

// RecordRestored makes a restored directory one that `logcore dev` starts with the
// same archive.
func RecordRestored(path, key string, targets []string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if key, err = filepath.Abs(key); err != nil {
		return err
	}
	return writeDevFile(DevDir{Path: abs, Key: key, Targets: targets})
}
