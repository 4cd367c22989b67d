package media

import (
	"errors"
	"fmt"
	"strings"

	"github.com/logcore/logcore"
)

// The media by name, the fastest first.
var byName = []struct {
	name string
	open func(path string) (Dir, error)
	why  func() string
}{
	{"pmem", OpenPMEM, func() string {
		return "the file system maps files straight to persistent memory; write-back by " + writeBackInstruction()
	}},
	{"nvme", OpenNVMe, func() string { return "direct writes work" }},
	{"file", OpenFile, func() string { return "any file system will do" }},
}

// Open returns the fastest medium that the directory offers, and why it was chosen, in
// words. With a name ("pmem", "nvme", "file") that one or none is opened.
func Open(path, name string) (d Dir, reason string, err error) {
	var passed []string // over, and why
	for _, m := range byName {
		if name != "" && name != m.name {
			continue
		}
		d, err = m.open(path)
		switch {
		case err == nil && name != "":
			return d, "asked for", nil
		case err == nil:
			return d, strings.Join(append([]string{m.why()}, passed...), "; "), nil
		case name != "" || !errors.Is(err, errors.ErrUnsupported):
			return nil, "", err
		}
		passed = append(passed, err.Error())
	}
	return nil, "", fmt.Errorf("media: %w: there is no medium %q: want pmem, nvme or file", logcore.ErrInvalid, name)
}
