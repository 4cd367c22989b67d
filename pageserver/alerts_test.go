package pageserver_test

import (
	"testing"

	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/alertstest"
	"github.com/logcore/logcore/pageserver"
)

// The alert rules ask for metrics that a page server has, and point to chapters that there are.
func TestAlertsAskForWhatIsThere(t *testing.T) {
	r := newRig(t, 5)
	r.opts.Archive = enginetest.NewArchive(r.source)
	s := r.start()
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
	alertstest.Check(t, "..", "deploy/alerts/pageserver.rules.yml", r.registry, 8, "logcore_corruption_total")
}
