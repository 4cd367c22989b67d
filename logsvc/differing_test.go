package logsvc

import (
	"slices"
	"testing"
)

// What differs between the shards is named with who has which; what is the same, or not known, is not.
func TestDiffering(t *testing.T) {
	one := map[string]string{"target a1": "in use", "the code": "4+2"}
	for name, c := range map[string]struct {
		decided []map[string]string
		want    []string
	}{
		"one shard":      {[]map[string]string{one}, nil},
		"no archive":     {[]map[string]string{nil, nil}, nil},
		"alike":          {[]map[string]string{one, one, one}, nil},
		"one not known":  {[]map[string]string{one, nil, one}, nil},
		"another target": {[]map[string]string{one, {"target a1": "in use", "target d1": "in use", "the code": "4+2"}, one}, []string{"the shards' archives differ in target d1: in use in shard 1; none in shards 0, 2: give the command that was interrupted again"}},
		"two things": {[]map[string]string{one, {"target a1": "being evacuated", "the code": "3+2"}}, []string{
			"the shards' archives differ in target a1: being evacuated in shard 1; in use in shard 0: give the command that was interrupted again",
			"the shards' archives differ in the code: 3+2 in shard 1; 4+2 in shard 0: give the command that was interrupted again"}},
	} {
		if got := differing(c.decided); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
