package target

import (
	"errors"
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
)

// What Parse accepts it accepts again as it prints it, with the same meaning.
func FuzzParse(f *testing.F) {
	for _, raw := range []string{"dir:///a/b?name=x&provider=p&region=r", "mem://x", "s3://bucket", "minio://bucket?endpoint=https://h:1&ca=/c&credentials=/d",
		"s3://u:p@b?endpoint=%zz", "dir://h/a#f", "dir:///a/../..", "s3://bucket?name=a&name=b"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		spec, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, bucket.ErrInvalid) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		again, err := Parse(spec.String())
		if err != nil || again != spec {
			t.Fatalf("%q reads as %+v, which prints as %q and reads as %+v, %v", raw, spec, spec.String(), again, err)
		}
		if !validLabel(spec.Name) || !validLabel(spec.Provider) || !validLabel(spec.Region) {
			t.Fatalf("%q: %+v", raw, spec)
		}
	})
}
