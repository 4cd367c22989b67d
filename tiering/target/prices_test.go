package target

import (
	"errors"
	"strings"
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
)

func TestPrices(t *testing.T) {
	s, err := Parse("s3://bucket?name=a1&provider=aws&region=eu-west-1&storage=0.023&egress=0.09&puts=0.005&gets=0.0004")
	if err != nil || s.Home || s.Prices != (Prices{0.023, 0.09, 0.005, 0.0004}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = Parse("minio://bucket?endpoint=https://x.example&home=true"); err != nil || !s.Home || s.Prices != (Prices{}) {
		t.Fatalf("%+v, %v", s, err)
	}
	_, err = Parse("dir:///srv/a1?home=perhaps&storage=-1&egress=NaN&puts=1e9&gets=cheap")
	if !errors.Is(err, bucket.ErrInvalid) {
		t.Fatal(err)
	}
	for _, field := range []string{"home", "storage", "egress", "puts", "gets"} {
		if !strings.Contains(err.Error(), "field "+field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
