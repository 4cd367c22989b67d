package tiering

import "context"

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
