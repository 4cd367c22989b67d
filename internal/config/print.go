package config

import (
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Print writes cfg as a YAML file that Load reads back to the same values, each
// field under its usage as a comment.
func Print(w io.Writer, cfg Config) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range cfg.Fields() {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name, HeadComment: f.Usage}
		value := &yaml.Node{}
		var err error
		if list, ok := f.Value.(List); ok {
			err = value.Encode(*list.items)
		} else {
			err = value.Encode(f.Value.String())
		}
		if err != nil {
			return fmt.Errorf("configuration: %s: %w", f.Name, err)
		}
		root.Content = append(root.Content, key, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return enc.Close()
}
