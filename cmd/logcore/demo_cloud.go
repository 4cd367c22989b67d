package main

import (
	"context"
	"os"
	"path/filepath"
)

// demoCloud is where the demo's archive lies: six targets at three providers.
type demoCloud interface {
	describe() string
	// urls are the targets' URLs; none means the directories that the service makes itself.
	urls() []string
	// environ is what the processes need to know besides the URLs.
	environ() []string
	// lose takes one provider away, for good, and returns its name.
	lose() (string, error)
	close() error
}

func (d *demo) openCloud(ctx context.Context) (demoCloud, error) {
	if d.flags.s3 {
		return openS3Cloud(ctx, d.dir, quiet(d.app))
	}
	return dirCloud{targets: filepath.Join(d.serviceDir(), "targets")}, nil
}

// dirCloud is the embedded default: six directories.
type dirCloud struct{ targets string }

func (dirCloud) describe() string  { return "6 directories standing for 3 clouds" }
func (dirCloud) urls() []string    { return nil }
func (dirCloud) environ() []string { return nil }
func (dirCloud) close() error      { return nil }

func (c dirCloud) lose() (string, error) {
	for _, name := range []string{"b1", "b2"} {
		if err := os.RemoveAll(filepath.Join(c.targets, name)); err != nil {
			return "", err
		}
	}
	return "b", nil
}
