package segdir_test

import (
	"testing"

	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/media/mediatest"
	"github.com/logcore/logcore/hotlog/segdir"
)

// A medium whose files are opened and closed all the time is a medium like any other.
func TestFilesIsAMedium(t *testing.T) {
	var last *simdisk.Disk
	mediatest.Run(t, func(t *testing.T, again bool) media.Dir {
		if again {
			last = last.Crash(7)
		} else {
			last = simdisk.New(1)
		}
		return segdir.NewFiles(last, 0)
	})
}
