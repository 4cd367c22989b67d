package s3test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"testing"
	"time"
)

func TestKillAndRestartKeepsAddress(t *testing.T) {
	s := StartTest(t, Options{Clouds: []string{"a", "b"}, Buckets: []string{"one"}, LockedBuckets: []string{"locked"}})
	a := s.Cloud("a")
	endpoint := a.Endpoint()
	if s.Cloud("b").Endpoint() == endpoint {
		t.Fatal("two clouds share an address")
	}
	if err := health(t, s, endpoint); err != nil {
		t.Fatal(err)
	}
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := health(t, s, endpoint); err == nil {
		t.Fatal("a killed gateway still answers")
	}
	if err := a.Kill(); err != nil {
		t.Fatalf("second Kill: %v", err)
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.Endpoint() != endpoint {
		t.Fatalf("came back at %s, was at %s", a.Endpoint(), endpoint)
	}
	if err := health(t, s, endpoint); err != nil {
		t.Fatal(err)
	}
	if err := a.MakeBucket(t.Context(), "one", false); err != nil { // it exists
		t.Fatal(err)
	}
}

func health(t *testing.T, s *Servers, endpoint string) error {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	r, err := client.Get(endpoint + "/healthz")
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("health: %s", r.Status)
	}
	return nil
}
