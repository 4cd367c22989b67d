package media

import "testing"

// BreakDirect makes every later WriteSync of an nvme file fail.
func BreakDirect(t *testing.T, f File) {
	t.Helper()
	f.(*nvmeFile).fd = -1
}
