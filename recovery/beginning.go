package recovery

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// lostBeginning returns what logs had before the first entry that the archive has.
// Nobody gave those entries up: of a truncated log it does not count what is below the
// truncation.
func lostBeginning(logs []*catalog.Log, archived logcore.LSN) []Loss {
	first, names := archived, ""
	for _, l := range logs {
		if l.FirstLSN() >= archived || l.LastLSN == 0 {
			continue
		}
		first = min(first, l.FirstLSN())
		if names != "" {
			names += ", "
		}
		names += l.Name
	}
	if first == archived {
		return nil
	}
	return []Loss{{First: first, Last: archived - 1, Reason: fmt.Sprintf("the archive on these targets begins at LSN %d; what it lacks are entries of %s", archived, names)}}
}
