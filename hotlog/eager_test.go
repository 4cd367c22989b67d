package hotlog

import (
	"slices"
	"testing"

	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// eagerDir plants a bug: a mark that goes with a batch speaks of that batch already,
// not of those before.
type eagerDir struct{ *simdisk.Disk }

func (d eagerDir) Create(name string, size int64) (media.File, error) {
	f, err := d.Disk.Create(name, size)
	return eagerFile{f}, err
}

func (d eagerDir) Open(name string) (media.File, error) {
	f, err := d.Disk.Open(name)
	return eagerFile{f}, err
}

type eagerFile struct{ media.File }

func (f eagerFile) WriteSync(writes []media.Write) error {
	if len(writes) > 1 && writes[0].Off > 0 && writes[0].Off < segment.FramesOffset {
		m, err := segment.DecodeMark(writes[0].P)
		if err != nil {
			return err
		}
		var frames []byte
		for _, w := range writes[1:] {
			frames = append(frames, w.P...)
		}
		for rest := frames[m.End-writes[1].Off:]; ; {
			e, sum, n, err := segment.DecodeFrame(rest, m.ID, m.Sum)
			if err != nil {
				break
			}
			m.LSN, m.Sum, m.End, rest = e.LSN, sum, m.End+int64(n), rest[n:]
		}
		eager := media.Buffer(segment.BlockBytes)
		m.Append(eager[:0])
		writes = slices.Clone(writes)
		writes[0].P = eager
	}
	return f.File.WriteSync(writes)
}

// With a batch in several pieces under way beside its mark, a mark that is not a batch
// behind is found: it proves what a crash tore.
func TestCrashFindsPlantedEagerMark(t *testing.T) {
	done, err := crashRunOn(1, 4000, func(w *world) { w.medium = eagerDir{w.disk} })
	if err == nil {
		t.Fatalf("not found in %d states", done)
	}
	t.Logf("found after %d states: %v", done, err)
}
