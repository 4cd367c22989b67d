package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// Field is one setting. Its Name is the YAML key; the flag is the name with dashes,
// the variable LOGCORE_ and the name in capitals.
type Field struct {
	Name  string
	Usage string
	Value pflag.Value
}

// Flag returns the name of the field's flag, without the dashes before it.
func (f Field) Flag() string { return strings.ReplaceAll(f.Name, "_", "-") }

// Env returns the name of the field's environment variable.
func (f Field) Env() string { return "LOGCORE_" + strings.ToUpper(f.Name) }

// Config is what Load fills: a struct of settings.
type Config interface {
	// Fields returns the settings in the order in which they are printed; the values
	// write through to the struct.
	Fields() []Field
	// Validate returns everything that is wrong with the values, nil when nothing is.
	Validate() []Problem
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Field  string // the name of the field, or the unknown key
	Source string // "file x.yaml line 3", "LOGCORE_DIR", "--dir"; empty when the value is a default
	Reason string // what is wrong and what to do
}

// Error reports every problem of a configuration at once.
type Error struct {
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("configuration:")
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.Field)
		if p.Source != "" {
			b.WriteString(" (" + p.Source + ")")
		}
		b.WriteString(": " + p.Reason)
	}
	return b.String()
}
