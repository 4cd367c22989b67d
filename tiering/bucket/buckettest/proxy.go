package buckettest

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Proxy stands in front of a real gateway that serves plain http and spoils what it is
// told to, as a broken provider or a middlebox would.
type Proxy struct {
	// Endpoint is the proxy's URL.
	Endpoint string

	requests atomic.Int64
	spoil    atomic.Pointer[Spoil]
}

// Spoil says what a proxy does to requests; the zero value lets everything pass.
type Spoil struct {
	// Request may change the request. When it answers itself it returns true and the
	// gateway isn't asked.
	Request func(http.ResponseWriter, *http.Request) (answered bool)
	// Response may change the gateway's answer.
	Response func(*http.Response) error
}

// StartProxy starts a proxy in front of the gateway at an http URL.
func StartProxy(t *testing.T, gateway string) *Proxy {
	t.Helper()
	backend, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	p := new(Proxy)
	p.Set(Spoil{})
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(backend)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			if modify := p.spoil.Load().Response; modify != nil {
				return modify(r)
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		if answer := p.spoil.Load().Request; answer != nil && answer(w, r) {
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.Endpoint = server.URL
	return p
}

// Set replaces what the proxy does.
func (p *Proxy) Set(s Spoil) { p.spoil.Store(&s) }

// Requests returns how many requests came since the last call.
func (p *Proxy) Requests() int64 { return p.requests.Swap(0) }

// Answer makes every request fail with a status and an S3 error of that code; an empty
// code sends a page that is no S3 error.
func Answer(status int, code string) Spoil {
	return Spoil{Request: func(w http.ResponseWriter, r *http.Request) bool {
		body := "<html>Bad Gateway</html>"
		if code != "" {
			body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>because</Message></Error>`
			w.Header().Set("Content-Type", "application/xml")
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			w.Write([]byte(body))
		}
		return true
	}}
}

// IgnoreConditions strips If-None-Match: the bucket's conditional put silently isn't
// conditional. The keys are needed to sign what is left.
func IgnoreConditions(accessKey, secretKey string) Spoil {
	return strip("If-None-Match", accessKey, secretKey)
}

// IgnoreChecksums strips the checksum of a put: the provider doesn't look at it.
func IgnoreChecksums(accessKey, secretKey string) Spoil {
	return strip("X-Amz-Checksum-Crc32c", accessKey, secretKey)
}

func strip(header, accessKey, secretKey string) Spoil {
	return Spoil{Request: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get(header) == "" {
			return false
		}
		r.Header.Del(header)
		r.Header.Del("Authorization")
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
		err := signer.SignHTTP(r.Context(), credentials, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return err != nil
	}}
}
