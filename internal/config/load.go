package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// AddFlags registers a flag for every field of cfg. The flags hold text until Load:
// a flag may come before or after the file it overrides.
func AddFlags(flags *pflag.FlagSet, cfg Config) {
	for _, f := range cfg.Fields() {
		flags.Var(&pending{kind: f.Value.Type(), def: f.Value.String()}, f.Flag(), fmt.Sprintf("%s (%s)", f.Usage, f.Env()))
	}
}

// pending is a flag's text that waits for its turn: the value is checked when it is applied.
type pending struct {
	kind, def, text string
	set             bool
}

func (p *pending) String() string {
	if p.set {
		return p.text
	}
	return p.def
}
func (p *pending) Type() string { return p.kind }
func (p *pending) Set(s string) error {
	if p.set && p.kind == "list" {
		s = p.text + "," + s // a list's flag may be repeated
	}
	p.text, p.set = s, true
	return nil
}

// Load fills cfg, which holds the defaults, from the YAML file at path (empty: none),
// the environment and the flags that AddFlags registered (nil: none), then validates it.
// Everything that is wrong comes back in one *Error; a file that can't be read is
// an error of its own.
func Load(cfg Config, path string, getenv func(string) string, flags *pflag.FlagSet) error {
	l := loader{fields: cfg.Fields(), source: map[string]string{}}
	if path != "" {
		if err := l.file(path); err != nil {
			return err
		}
	}
	for _, f := range l.fields {
		if text := getenv(f.Env()); text != "" {
			l.set(f, text, f.Env())
		}
	}
	for _, f := range l.fields {
		if flags == nil {
			break
		}
		if flag := flags.Lookup(f.Flag()); flag != nil && flag.Changed {
			l.set(f, flag.Value.String(), "--"+f.Flag())
		}
	}
	if len(l.problems) == 0 {
		l.problems = cfg.Validate()
	}
	for i, p := range l.problems {
		if p.Source == "" {
			l.problems[i].Source = l.source[p.Field]
		}
	}
	if len(l.problems) > 0 {
		return &Error{Problems: l.problems}
	}
	return nil
}

type loader struct {
	fields   []Field
	source   map[string]string // where each field got its value, by name
	problems []Problem
}

func (l *loader) set(f Field, text, source string) {
	l.source[f.Name] = source
	if err := f.Value.Set(text); err != nil {
		l.bad(f.Name, source, err.Error())
	}
}

func (l *loader) bad(field, source, reason string) {
	l.problems = append(l.problems, Problem{Field: field, Source: source, Reason: reason})
}

// file walks the document by hand rather than decoding it into a struct: so one pass
// reports every unknown key, every doubled one and every bad value, with its line.
func (l *loader) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w: give the path of a YAML file with --config, or leave it out", err)
	}
	defer f.Close()
	var doc yaml.Node
	dec := yaml.NewDecoder(f)
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty file sets nothing
		}
		return &Error{Problems: []Problem{{Field: path, Reason: err.Error() + ": it must be YAML, one key: value a line"}}}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		l.bad(path, fmt.Sprintf("line %d", root.Line), "the document must be a mapping, one key: value a line")
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.bad(path, "", "holds more than one YAML document; keep one")
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		source := fmt.Sprintf("%s line %d", path, key.Line)
		if line, twice := seen[key.Value]; twice {
			l.bad(key.Value, source, fmt.Sprintf("is set twice, first in line %d; keep one", line))
			continue
		}
		seen[key.Value] = key.Line
		l.node(key.Value, source, value)
	}
	return nil
}

func (l *loader) node(key, source string, value *yaml.Node) {
	f, ok := l.lookup(key)
	if !ok {
		l.bad(key, source, "unknown key; known are "+strings.Join(l.names(), ", "))
		return
	}
	list, isList := f.Value.(List)
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		l.set(f, value.Value, source)
	case value.Kind == yaml.SequenceNode && isList:
		items := make([]string, 0, len(value.Content))
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				l.bad(key, fmt.Sprintf("%s, item in line %d", source, item.Line), "want plain strings in the list")
				return
			}
			items = append(items, item.Value)
		}
		l.source[f.Name] = source
		if err := list.SetItems(items); err != nil {
			l.bad(key, source, err.Error())
		}
	default:
		l.bad(key, source, "want a "+f.Value.Type()+"; to keep the default, remove the line")
	}
}

func (l *loader) lookup(name string) (Field, bool) {
	for _, f := range l.fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

func (l *loader) names() []string {
	names := make([]string, len(l.fields))
	for i, f := range l.fields {
		names[i] = f.Name
	}
	return names
}
