package effect_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/effect"
)

// The control file of another version is refused by the version's name, whatever its checksum covers.
func TestOtherVersionsControlFilesAreRefusedByName(t *testing.T) {
	file := func(version, catalog uint32) []byte {
		b := make([]byte, 8192)
		binary.LittleEndian.PutUint32(b[8:], version)
		binary.LittleEndian.PutUint32(b[12:], catalog)
		return b
	}
	for name, b := range map[string][]byte{
		"PostgreSQL 13;": file(1300, 202007201), "PostgreSQL 14;": file(1300, 202107181), "PostgreSQL 16;": file(1300, 202307071), "PostgreSQL 17;": file(1300, 202406281),
		"PostgreSQL none that is known here;": file(1300, 202209062), "version 1800;": file(1800, 202506291), "version 1201;": file(1201, 201909212),
	} {
		_, err := effect.ParseControl(b)
		if !errors.Is(err, logcore.ErrUnsupportedVersion) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s %v, want ErrUnsupportedVersion", name, err)
		}
	}
	if _, err := effect.ParseControl(file(1300, 202209061)); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("a control file of zeros: %v, want ErrCorrupt", err)
	}
}
