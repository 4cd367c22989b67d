package logsvc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// differing says in words in what the shards' archives differ, given what is decided about each by what it is about; nil of
// one whose archive is not known. All of them are to be alike: a command goes from one to the next.
func differing(decided []map[string]string) (problems []string) {
	about := map[string]bool{}
	for _, d := range decided {
		for key := range d {
			about[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(about)) {
		shards := map[string][]string{} // by what is decided
		for shard, d := range decided {
			if d == nil {
				continue
			}
			value := d[key]
			if value == "" {
				value = "none"
			}
			shards[value] = append(shards[value], fmt.Sprint(shard))
		}
		if len(shards) < 2 {
			continue
		}
		var each []string
		for _, value := range slices.Sorted(maps.Keys(shards)) {
			of := "shard"
			if len(shards[value]) > 1 {
				of = "shards"
			}
			each = append(each, fmt.Sprintf("%s in %s %s", value, of, strings.Join(shards[value], ", ")))
		}
		problems = append(problems, fmt.Sprintf("the shards' archives differ in %s: %s: give the command that was interrupted again", key, strings.Join(each, "; ")))
	}
	return problems
}
