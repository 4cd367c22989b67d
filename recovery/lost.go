package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering"
)

// noteLoss puts every range that can't be rebuilt into the report, beginning with the
// one that err names: the rest of the archive is read for that, so that whoever has to
// decide what to do knows all of it.
func (r *restore) noteLoss(ctx context.Context, err error) {
	var missing *tiering.FragmentsError
	if !errors.As(err, &missing) {
		return
	}
	var before []string // the targets without a good fragment of the object before
	for errors.As(err, &missing) {
		lacking := targetsOf(missing)
		last := len(r.report.Lost) - 1
		if last >= 0 && r.report.Lost[last].Last+1 == missing.First && slices.Equal(lacking, before) {
			r.report.Lost[last].Last = missing.Last
			r.report.Lost[last].Objects++
		} else {
			r.report.Lost = append(r.report.Lost, Loss{First: missing.First, Last: missing.Last, Objects: 1,
				Reason: fmt.Sprintf("%d fragments are needed, %d are good: %s", missing.Need, missing.Have, strings.Join(missing.Missing, "; "))})
		}
		before = lacking
		if missing.Last >= r.end() {
			return
		}
		err = r.readThrough(ctx, missing.Last+1)
	}
	if err != nil {
		r.o.Logger.Warn("recovery: the rest of the archive could not be searched for losses", "err", err)
	}
}

// readThrough reads the archive from an LSN on, until something can't be read.
func (r *restore) readThrough(ctx context.Context, from logcore.LSN) error {
	for s, err := range r.reader.Spans(ctx, from, r.end()) {
		if err != nil {
			return err
		}
		r.o.Progress(Progress{Step: "look for losses", LSN: s.Last, Last: r.end()})
	}
	return nil
}

// targetsOf returns the targets that an object has no good fragment on.
func targetsOf(e *tiering.FragmentsError) []string {
	var names []string
	for _, m := range e.Missing {
		name, _, _ := strings.Cut(m, ":")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
