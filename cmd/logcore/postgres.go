package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/verify"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/waldump"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) postgresCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "postgres", Short: "Keep a PostgreSQL server's WAL in a log; read WAL, and check that it is redone right"}
	cmd.AddCommand(a.attachCommand(), a.basebackupCommand(), a.postgresExportCommand(), a.postgresRunCommand(), a.postgresStatusCommand(), a.waldumpCommand(), a.verifyRedoCommand())
	return cmd
}

// walFlags say what of a WAL directory is read.
type walFlags struct {
	start, end string
	timeline   uint32
}

func (f *walFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.start, "start", "", "begin at the first record at or behind this position, such as 0/1500028; without it at the oldest segment")
	cmd.Flags().StringVar(&f.end, "end", "", "stop before the first record at or behind this position")
	cmd.Flags().Uint32Var(&f.timeline, "timeline", 0, "read this timeline; without it the newest that has the first segment")
}

// options turns the flags into what ReadDir takes. path is a directory, or one segment's file, which is then
// where reading begins.
func (f *walFlags) options(path string) (wal.DirOptions, error) {
	o := wal.DirOptions{Dir: path, Timeline: wal.Timeline(f.timeline)}
	if info, err := os.Stat(path); err != nil {
		return o, err
	} else if !info.IsDir() {
		o.Dir = filepath.Dir(path)
		if err := o.BeginWith(filepath.Base(path)); err != nil {
			return o, exit.With(exit.Usage, err)
		}
	}
	for _, p := range []struct {
		text string
		to   *wal.Position
	}{{f.start, &o.Start}, {f.end, &o.End}} {
		if p.text == "" {
			continue
		}
		at, err := wal.ParsePosition(p.text)
		if err != nil {
			return o, exit.With(exit.Usage, err)
		}
		*p.to = at
	}
	return o, nil
}

func (a *app) waldumpCommand() *cobra.Command {
	var f walFlags
	var manager string
	var limit uint64
	cmd := &cobra.Command{
		Use:   "waldump DIR|SEGMENT",
		Short: "Print the records of PostgreSQL's WAL as pg_waldump does",
		Long: `Print the records of PostgreSQL's WAL, a line each, in the words of pg_waldump of the same
version. PostgreSQL 15 is read; the log of another version is refused by name. Every
checksum is verified. What ends the log is told on standard error.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options(args[0])
			if err != nil {
				return err
			}
			w := bufio.NewWriterSize(a.out, 1<<16)
			var line []byte
			var printed uint64
			err = wal.ReadDir(cmd.Context(), opts, func(r *wal.Record) bool {
				if manager != "" && !strings.EqualFold(manager, r.Manager.String()) {
					return true
				}
				line = append(waldump.Append(line[:0], r), '\n')
				printed++
				_, werr := w.Write(line)
				return werr == nil && (limit == 0 || printed < limit)
			})
			return errors.Join(w.Flush(), a.endOfWAL(err))
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&manager, "rmgr", "", "print only the records of this resource manager, such as Heap")
	cmd.Flags().Uint64Var(&limit, "limit", 0, "stop after so many records")
	return cmd
}

// endOfWAL tells how a log ended. Where nothing was written yet is where every log of a server in use
// ends; anything else may be that too, or may be damage: only its reader knows.
func (a *app) endOfWAL(err error) error {
	var invalid *wal.InvalidError
	if errors.As(err, &invalid) && invalid.NothingWritten() {
		fmt.Fprintf(a.err, "the log ends at %v\n", invalid.At)
		return nil
	}
	return err
}

type redoKindJSON struct {
	Manager   string `json:"manager"`
	Operation string `json:"operation"`
	verify.Counts
}

type redoJSON struct {
	Kinds       []redoKindJSON `json:"kinds"`
	Total       verify.Counts  `json:"total"`
	Records     uint64         `json:"records"`
	Pages       int            `json:"pages"`
	EarlyLeft   int            `json:"early_left"`
	Differences []string       `json:"differences"`
}

func (a *app) verifyRedoCommand() *cobra.Command {
	var f walFlags
	var hints bool
	const shown = 20
	cmd := &cobra.Command{
		Use:   "verify-redo DIR",
		Short: "Redo PostgreSQL's WAL in Go and compare each page with the server's own",
		Long: `Redo PostgreSQL's WAL, written under wal_consistency_checking=all, and compare each page after
each record with the image that the server put into it. Both are masked as the server
masks them for the same check. Exit code 6 when a page differs.

The columns: equal to the server's; images that redo takes as they are; images of resource managers that
are not redone in Go; pages unknown before their first record, whose image was taken; redone
with no image to compare with; maps whose bits the server has and its WAL has not, since CREATE DATABASE
logs maps without their content; different or impossible to redo.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options(args[0])
			if err != nil {
				return err
			}
			out := redoJSON{Differences: []string{}}
			v := verify.New(redo.Redo{HintBitsLogged: hints}, func(d *verify.Difference) {
				if len(out.Differences) < shown {
					out.Differences = append(out.Differences, d.Error())
				}
			})
			m := a.newMeter()
			err = wal.ReadDir(cmd.Context(), opts, func(r *wal.Record) bool {
				v.Record(r)
				if out.Records++; out.Records%8192 == 0 {
					m.update("verify-redo: %d records, up to %v", out.Records, r.Start)
				}
				return true
			})
			m.done()
			if err := a.endOfWAL(err); err != nil {
				return err
			}
			out.Pages, out.EarlyLeft = v.Pages(), v.EarlyLeft()
			for k, c := range v.Counts() {
				out.Kinds = append(out.Kinds, redoKindJSON{k.Manager, k.Operation, c})
				out.Total.Add(c)
			}
			slices.SortFunc(out.Kinds, func(x, y redoKindJSON) int {
				return cmp.Or(cmp.Compare(x.Manager, y.Manager), cmp.Compare(x.Operation, y.Operation))
			})
			return errors.Join(a.writeRedo(out), redoVerdict(out))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&hints, "checksums", false, "the cluster has data checksums or wal_log_hints")
	a.outputFlag(cmd)
	a.progressFlag(cmd)
	return cmd
}

// redoVerdict says what a comparison showed. One that compared nothing showed nothing.
func redoVerdict(r redoJSON) error {
	switch {
	case r.Total.Differ+r.Total.Failed > 0:
		return exit.With(exit.Integrity, fmt.Errorf("%d blocks differ and %d could not be redone", r.Total.Differ, r.Total.Failed))
	case r.Total.Equal == 0:
		return fmt.Errorf("%w: no block could be compared: was this log written under wal_consistency_checking=all?", logcore.ErrInvalid)
	}
	return nil
}

func (a *app) writeRedo(r redoJSON) error {
	if a.format == "json" {
		return a.writeJSON(r)
	}
	row := func(name string, c verify.Counts) []string {
		out := []string{name}
		for _, n := range []uint64{c.Equal + c.Early, c.Images, c.Unnative, c.Unknown, c.NoImage, c.Unlogged, c.Differ + c.Failed} {
			out = append(out, fmt.Sprint(n))
		}
		return out
	}
	var rows [][]string
	for _, k := range r.Kinds {
		rows = append(rows, row(k.Manager+"/"+k.Operation, k.Counts))
	}
	rows = append(rows, row("total", r.Total))
	if err := a.writeTable([]string{"RECORD", "EQUAL", "IMAGES", "NOT REDONE", "UNKNOWN", "NO IMAGE", "NOT LOGGED", "DIFFERENT"}, rows); err != nil {
		return err
	}
	for _, d := range r.Differences {
		fmt.Fprintln(a.out, d)
	}
	return nil
}
