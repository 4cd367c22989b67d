package roles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering/target"
)

// changesFile is where a service notes, beside its state, which targets were added and
// removed while it ran: its configuration is somebody else's to write.
const changesFile = "targets-changed.json"

// changesVersion is the version of the file, and the oldest reader that understands it.
const changesVersion = 1

type targetChanges struct {
	FormatVersion    int      `json:"format_version"`
	MinReaderVersion int      `json:"min_reader_version"`
	Added            []string `json:"added"`   // URLs
	Removed          []string `json:"removed"` // names
}

func readChanges(dir string) (c targetChanges, err error) {
	data, err := os.ReadFile(filepath.Join(dir, changesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return targetChanges{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	switch {
	case err != nil:
		return c, fmt.Errorf("%s: %w: put the targets into the configuration and remove the file", filepath.Join(dir, changesFile), err)
	case c.MinReaderVersion > changesVersion:
		return c, fmt.Errorf("%w: %s of version %d: use a newer build", logcore.ErrUnsupportedVersion, filepath.Join(dir, changesFile), c.FormatVersion)
	}
	return c, nil
}

func writeChanges(dir string, c targetChanges) error {
	c.FormatVersion, c.MinReaderVersion = changesVersion, changesVersion
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, changesFile), append(data, '\n'), 0o600)
}

// changedTargets returns the URLs of a configuration with what was changed since: those
// added and not configured, without those removed.
func changedTargets(dir string, urls []string) ([]string, error) {
	c, err := readChanges(dir)
	if err != nil || len(c.Added)+len(c.Removed) == 0 {
		return urls, err
	}
	var out, names []string
	for _, url := range append(slices.Clone(urls), c.Added...) {
		spec, err := target.Parse(url)
		if err != nil { // whoever opens the targets reports it, with all the others
			out = append(out, url)
			continue
		}
		if !slices.Contains(names, spec.Name) && !slices.Contains(c.Removed, spec.Name) {
			out, names = append(out, url), append(names, spec.Name)
		}
	}
	return out, nil
}

// NoteTargetAdded notes in a service's directory that a target was added.
func NoteTargetAdded(dir, url string) error {
	c, err := readChanges(dir)
	if err != nil {
		return err
	}
	if !slices.Contains(c.Added, url) {
		c.Added = append(c.Added, url)
	}
	return writeChanges(dir, c)
}

// NoteTargetRemoved notes in a service's directory that a target was removed.
func NoteTargetRemoved(dir, name string) error {
	c, err := readChanges(dir)
	if err != nil {
		return err
	}
	if !slices.Contains(c.Removed, name) {
		c.Removed = append(c.Removed, name)
	}
	c.Added = slices.DeleteFunc(c.Added, func(url string) bool {
		spec, err := target.Parse(url)
		return err == nil && spec.Name == name
	})
	return writeChanges(dir, c)
}
