package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/internal/exit"
)

// outputFlag adds -o with the formats a command can write; the first is the default.
func (a *app) outputFlag(cmd *cobra.Command, formats ...string) {
	if len(formats) == 0 {
		formats = []string{"table", "json"}
	}
	// A variable of its own: a shared one would get the default of whichever command was
	// made last.
	format := cmd.Flags().StringP("output", "o", formats[0], "form of the output: "+strings.Join(formats, ", "))
	next := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		a.format = *format
		for _, f := range formats {
			if a.format == f {
				if next != nil {
					return next(c, args)
				}
				return nil
			}
		}
		return exit.Usagef("-o %s: want one of %s", a.format, strings.Join(formats, ", "))
	}
}

// writeJSON writes v indented.
func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeJSONLine writes v on one line: one value of a stream.
func (a *app) writeJSONLine(v any) error { return json.NewEncoder(a.out).Encode(v) }

// writeTable writes rows in columns under a header.
func (a *app) writeTable(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// field is a name and a value in the description of one thing.
type field struct{ name, value string }

// writeFields writes a description, one field a line.
func (a *app) writeFields(fields []field) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(w, "%s\t%s\n", f.name, f.value)
	}
	return w.Flush()
}

// sizeText shows a number of bytes for people.
func sizeText[T ~int64 | ~uint64 | ~int](n T) string {
	v := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 {
			if unit == "B" {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.1f TiB", v)
}

// shellWord quotes s for a command that people copy, when it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
