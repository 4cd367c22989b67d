package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering"
)

// lossSearchMax bounds the search for further losses: one is enough to end a restore.
const lossSearchMax = 30 * time.Second

// lose puts an object that can't be rebuilt into the report; those that touch and lack the
// same fragments as one range.
func (r *restore) lose(missing *tiering.FragmentsError) {
	lacking := targetsOf(missing)
	last := len(r.report.Lost) - 1
	if last >= 0 && r.report.Lost[last].Last+1 == missing.First && slices.Equal(lacking, r.lacking) {
		r.report.Lost[last].Last = missing.Last
		r.report.Lost[last].Objects++
	} else {
		r.report.Lost = append(r.report.Lost, Loss{First: missing.First, Last: missing.Last, Objects: 1,
			Reason: fmt.Sprintf("%d fragments are needed, %d are good: %s", missing.Need, missing.Have, strings.Join(missing.Missing, "; "))})
	}
	r.lacking = lacking
}

// noteLoss puts every range that can't be rebuilt into the report, beginning with the
// one that err names: the rest of the archive is read for that, as far as it goes in a
// short time, so that whoever has to decide what to do knows all of it. Only fragments
// that are rotten come to this: the survey has found those that are missing.
func (r *restore) noteLoss(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, lossSearchMax)
	defer cancel()
	var missing *tiering.FragmentsError
	for errors.As(err, &missing) {
		r.lose(missing)
		if missing.Last >= r.end() {
			return
		}
		err = r.readThrough(ctx, missing.Last+1)
	}
	if err != nil && len(r.report.Lost) > 0 {
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
