package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/internal/exit"
)

type demoFlags struct {
	dir          string
	keep         bool
	s3           bool
	transactions int
	characters   int
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Load a database, kill everything, lose a cloud, restore, prove what is kept",
		Long: `The whole story on this machine, with real processes: load a database of 51,000 rows,
commit 2,000 transactions, kill every process in mid-commit and start again; kill
again, delete the hot tier and the page server, take one of three clouds away,
restore from the other two, begin the page server from its checkpoint, and compare
every transaction with what was acknowledged.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.transactions < 100 {
				return exit.Usagef("--transactions %d: want at least 100", f.transactions)
			}
			return a.demo(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory to work in, cleaned first and kept; default: a temporary one")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the temporary directory")
	cmd.Flags().BoolVar(&f.s3, "s3", false, "six buckets at three S3 servers instead of six directories")
	cmd.Flags().IntVar(&f.transactions, "transactions", 2000, "how many to commit after the load")
	cmd.Flags().IntVar(&f.characters, "characters", 0, "load a smaller sample; 0 for the whole one")
	cmd.Flags().BoolVar(&a.jsonOutput, "json", false, "write the result as JSON instead of lines")
	a.progressFlag(cmd)
	return cmd
}

// demoMarker stands in a demo's directory: only such a one is ever cleaned.
const demoMarker = ".logcore-demo"

func (a *app) demo(ctx context.Context, f demoFlags) (err error) {
	dir, temporary := f.dir, false
	if dir == "" {
		if dir, err = os.MkdirTemp("", "logcore-demo-"); err != nil {
			return err
		}
		temporary = !f.keep
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := cleanDemoDir(dir); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	d := &demo{app: a, flags: f, dir: dir, exe: exe}
	err = errors.Join(d.tell(ctx), d.end())
	if err != nil {
		return fmt.Errorf("%w\nthe demo's files are kept in %s", err, dir)
	}
	if temporary {
		return os.RemoveAll(dir)
	}
	return nil
}

// cleanDemoDir makes dir an empty directory of a demo. It refuses one that is someone
// else's.
func cleanDemoDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, demoMarker)); err != nil {
			return exit.Usagef("--dir %s is not empty and no demo's directory (there is no %s): it is not cleaned; give another", dir, demoMarker)
		}
	}
	for _, e := range entries {
		if e.Name() == demoMarker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, demoMarker), []byte("made by logcore demo, which may delete everything here\n"), 0o600)
}
