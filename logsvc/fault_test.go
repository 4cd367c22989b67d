package logsvc_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/brokenfiles"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// TestPoisoned (I10): after a failed write nothing is acknowledged, readers are served,
// and the service says what is wrong.
func TestPoisoned(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, "", logsvc.Options{}, replication.Options{})
	c, ctx := n.client(client.Options{}), testContext(t)
	w := openWriter(t, c, "a", client.WriterOptions{Create: true})
	mustAppend(t, w, "kept")
	conn, err := grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health := healthv1.NewHealthClient(conn)
	serving := func() healthv1.HealthCheckResponse_ServingStatus {
		resp, err := health.Check(ctx, &healthv1.HealthCheckRequest{Service: "logcore.v1.LogCoreService"})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status
	}
	if got := serving(); got != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health %v", got)
	}
	brokenfiles.Under(t, dir)
	_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("lost")}, nil)
	if !errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, logcore.ErrPoisoned) {
		t.Fatalf("append onto a broken device: %v", err)
	}
	_, err = c.OpenWriter(ctx, "a", client.WriterOptions{Takeover: true})
	wantErr(t, "open of a writer", err, logcore.ErrPoisoned)
	if got := bodies(readLog(t, c, "a", client.ReadOptions{})); got != "kept" {
		t.Errorf("read %q", got)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Healthy || len(st.Problems) == 0 || st.Shards[0].Error == "" {
		t.Errorf("status %+v, %v", st, err)
	}
	for serving() == healthv1.HealthCheckResponse_SERVING { // the housekeeping notices
	}
	if err := w.Close(ctx); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("close: %v", err)
	}
	n.stop()
	n = start(t, dir, "", logsvc.Options{}, replication.Options{})
	if got := bodies(readLog(t, n.client(client.Options{}), "a", client.ReadOptions{})); !strings.HasPrefix(got, "kept") {
		t.Errorf("after reopening: %q", got)
	}
}
