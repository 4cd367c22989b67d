package tiering

import (
	"context"
	"iter"

	"github.com/logcore/logcore"
)

const rawBytesMax = 512 << 20
const targetsMax = 32

type Archiver struct{ o Options }

func Open(ctx context.Context, o Options) (*Archiver, error)          { return nil, o.withDefaults().validate() }
func (a *Archiver) Run(ctx context.Context) error                     { return nil }
func (a *Archiver) Covered() logcore.LSN                              { return 0 }
func (a *Archiver) Flush(ctx context.Context, upTo logcore.LSN) error { return nil }
func (a *Archiver) Status() Status                                    { return Status{} }
func (a *Archiver) TargetStatus() []TargetStatus                      { return nil }
func (a *Archiver) Reader() *Reader                                   { return nil }

type Reader struct{}

func OpenReader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	return nil, o.withDefaults().validate()
}
func (r *Reader) Cluster() [16]byte                                                      { return [16]byte{} }
func (r *Reader) First() logcore.LSN                                                     { return 0 }
func (r *Reader) Covered() logcore.LSN                                                   { return 0 }
func (r *Reader) CoveredTime() logcore.HLC                                               { return 0 }
func (r *Reader) Refresh(ctx context.Context) error                                      { return nil }
func (r *Reader) Spans(ctx context.Context, from, to logcore.LSN) iter.Seq2[Span, error] { return nil }
func (r *Reader) ReadRange(ctx context.Context, from, to logcore.LSN, bytesMax int64) ([]Span, error) {
	return nil, nil
}

type Location struct {
	Cluster [16]byte
	Shard   logcore.ShardID
}

func Discover(ctx context.Context, targets []Target) ([]Location, error) { return nil, nil }

type Problem struct {
	Target, Key string
	Offset      int64
	Kind        string
	Detail      string
	Notice      bool
}
type Progress struct {
	Phase                 string
	Target                string
	Objects, ObjectsTotal int
	Bytes                 int64
}
type VerifyReport struct {
	Problems []Problem
}

func (r VerifyReport) OK() bool { return false }
func Verify(ctx context.Context, targets []Target, keys KeyProvider, progress func(Progress)) (VerifyReport, error) {
	return VerifyReport{}, nil
}

type RepairReport struct{}

func Repair(ctx context.Context, targets []Target, keys KeyProvider, progress func(Progress)) (RepairReport, error) {
	return RepairReport{}, nil
}
