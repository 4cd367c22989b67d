package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/internal/exit"
)

func (a *app) logDumpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump DIR",
		Short: "Write what the files of a hot log say; the service must not run",
		Long: "Write what the segment files of a hot log say, without payloads: a line for each segment, each entry and each footer, as text or as a JSON object. " +
			"DIR is a shard's directory, such as lc/logsvc/shard-0; exit code 6 when something is wrong.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := isHotLog(args[0]); err != nil {
				return err
			}
			out := bufio.NewWriterSize(a.out, 64<<10)
			lines := json.NewEncoder(out)
			err := inspect.Dump(cmd.Context(), args[0], func(d fmt.Stringer) error {
				if a.format == "json" {
					return lines.Encode(d)
				}
				_, err := fmt.Fprintln(out, d)
				return err
			})
			return errors.Join(err, out.Flush())
		},
	}
	a.outputFlag(cmd, "text", "json")
	return cmd
}

type checkJSON struct {
	Dir      string      `json:"dir"`
	Segments int         `json:"segments"`
	First    logcore.LSN `json:"first_lsn"`
	Last     logcore.LSN `json:"last_lsn"`
	Proven   logcore.LSN `json:"proven_lsn"`
	Entries  uint64      `json:"entries"`
	Bytes    int64       `json:"bytes"`
	Problems []string    `json:"problems"`
	Notes    []string    `json:"notes"`
}

func (a *app) logCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify every byte of a hot log, changing nothing; the service must not run",
		Long:  "Verify every byte of a hot log, changing nothing; exit code 6 when something is wrong. DIR is a shard's directory, such as lc/logsvc/shard-0.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := isHotLog(args[0]); err != nil {
				return err
			}
			m := a.newMeter()
			check, err := inspect.Check(cmd.Context(), inspect.CheckOptions{Dir: args[0], LogOf: catalog.LogOf,
				Progress: func(done, total int64) { m.update("check: %d of %d MiB", done>>20, total>>20) }})
			m.done()
			if err != nil {
				return err
			}
			problems := append(check.Problems, check.Rotten...)
			out := checkJSON{Dir: args[0], Segments: check.Segments, First: check.First, Last: check.Last, Proven: check.Proven,
				Entries: check.Entries, Bytes: check.Bytes, Problems: errorTexts(problems), Notes: append([]string{}, check.Notes...)}
			if err := a.writeCheck(out); err != nil {
				return err
			}
			return problemsError(problems)
		},
	}
	a.outputFlag(cmd)
	a.progressFlag(cmd)
	return cmd
}

func (a *app) writeCheck(c checkJSON) error {
	if a.format == "json" {
		return a.writeJSON(c)
	}
	fields := []field{{"read", fmt.Sprintf("%d bytes, %d entries in %d segments", c.Bytes, c.Entries, c.Segments)},
		{"LSNs", fmt.Sprintf("%d to %d, proven durable to %d", c.First, c.Last, c.Proven)}}
	for _, p := range c.Problems {
		fields = append(fields, field{"PROBLEM", p})
	}
	for _, n := range c.Notes {
		fields = append(fields, field{"note", n})
	}
	return a.writeFields(fields)
}

func errorTexts(errs []error) []string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return texts
}

// problemsError is the exit of a check that found something: what it is stands in the
// output already.
func problemsError(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	code := exit.Failure
	for _, p := range problems {
		if errors.Is(p, logcore.ErrCorrupt) {
			code = exit.Integrity
		}
	}
	return exit.With(code, fmt.Errorf("%d problems found, listed above", len(problems)))
}

// isHotLog refuses a path that holds no segment file: what is checked by mistake must not
// come out as whole.
func isHotLog(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, isSegment) {
		return nil
	}
	for _, below := range []string{"shard-0", filepath.Join("logsvc", "shard-0")} {
		if entries, err := os.ReadDir(filepath.Join(path, below)); err == nil && slices.ContainsFunc(entries, isSegment) {
			return exit.Usagef("no segment files in %s; did you mean %s?", path, filepath.Join(path, below))
		}
	}
	return exit.Usagef("no segment files in %s: give a shard's directory, such as lc/logsvc/shard-0", path)
}

func isSegment(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".seg") }
