package s3test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLink(t *testing.T) {
	s := StartTest(t, Options{Clouds: []string{"a"}, Buckets: []string{"one"}, Links: true, PlainHTTP: true})
	a, link := s.Cloud("a"), s.Cloud("a").Link()
	get := func(timeout time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Endpoint()+"/healthz", strings.NewReader(strings.Repeat("x", 10_000)))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err == nil {
			answer.Body.Close()
		}
		return time.Since(began), err
	}
	if _, err := get(time.Minute); err != nil {
		t.Fatal(err)
	}
	if link.Sent() == 0 || link.Received() == 0 {
		t.Errorf("%d bytes sent, %d received", link.Sent(), link.Received())
	}
	link.SetDelay(300 * time.Millisecond)
	if took, err := get(time.Minute); err != nil || took < 300*time.Millisecond {
		t.Errorf("with a delay: %v after %v", err, took)
	}
	link.SetDelay(0)
	link.SetHang(true)
	if _, err := get(200 * time.Millisecond); err == nil {
		t.Error("a link that hangs let a request through")
	}
	link.SetHang(false)
	link.SetCut(50)
	if _, err := get(time.Minute); err == nil {
		t.Error("a link that is cut let a whole request through")
	}
	link.SetCut(0)
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := get(time.Minute); err == nil {
		t.Error("a killed cloud answers")
	}
	if err := a.SetSecret(t.Context(), "another"); err != nil {
		t.Fatal(err)
	}
	if _, err := get(time.Minute); err != nil {
		t.Errorf("the link lost its cloud over a restart: %v", err)
	}
	if err := a.MakeBucket(t.Context(), "two", false); err == nil {
		t.Error("the gateway takes the old secret")
	}
	if err := a.SetSecret(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := a.MakeBucket(t.Context(), "two", false); err != nil {
		t.Error(err)
	}
}
