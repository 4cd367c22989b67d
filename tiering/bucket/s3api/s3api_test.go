package s3api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/logcore/logcore/tiering/bucket"
)

func TestParseCredentials(t *testing.T) {
	for text, want := range map[string]Credentials{
		"access_key=a\nsecret_key=s": {AccessKey: "a", SecretKey: "s"},
		"# note\n\n[default]\naws_access_key_id = a\nAWS_SECRET_ACCESS_KEY = s=/+\r\n": {AccessKey: "a", SecretKey: "s=/+"},
		"access_key=a\nsecret_key=s\nsession_token=t\n":                                {AccessKey: "a", SecretKey: "s", SessionToken: "t"},
	} {
		if got, err := ParseCredentials([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %q %q %q, %v", text, got.AccessKey, got.SecretKey, got.SessionToken, err)
		}
	}
	for text, part := range map[string]string{
		"":                                       "secret_key",
		"access_key=a":                           "secret_key",
		"access_key=a\nhunter2":                  "line 2",
		"access_key=a\npassword=hunter2":         "line 2: unknown name",
		"[other]\naccess_key=a":                  "line 1",
		"secret_key=hunter2\nsecret_key=hunter2": "line 2: given twice",
	} {
		_, err := ParseCredentials([]byte(text))
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want one that says %q", text, err, part)
		}
	}
}

func TestCredentialsFileTooLarge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, make([]byte, credentialsFileBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FindCredentials(file); !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

func TestCredentialsArePrintedWithoutSecret(t *testing.T) {
	c := Config{Credentials: Credentials{AccessKey: "key", SecretKey: "hunter2", SessionToken: "hunter2", Source: "here"}}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s %q %x", c, c, c.Credentials, c.Credentials, c.Credentials), c.Credentials.String()} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s", text)
		}
	}
}

func TestRange(t *testing.T) {
	for _, test := range []struct {
		offset, length int64
		want           string
	}{{0, -1, ""}, {5, -1, "bytes=5-"}, {0, 1, "bytes=0-0"}, {5, 10, "bytes=5-14"}, {5, 1<<63 - 1, "bytes=5-"}} {
		if got := Range(test.offset, test.length); got != test.want {
			t.Errorf("Range(%d, %d) = %q, want %q", test.offset, test.length, got, test.want)
		}
	}
}

func TestReadBody(t *testing.T) {
	for _, test := range []struct {
		sent         int
		size, length int64
		ok           bool
	}{{10, 10, -1, true}, {10, 10, 10, true}, {5, 5, 10, true}, {0, 0, -1, true}, {9, 10, -1, false}, {0, 10, -1, false},
		{11, 11, 10, false}, {10, -1, -1, false}, {0, ObjectBytesMax + 1, -1, false}} {
		data, err := ReadBody(bytes.NewReader(make([]byte, test.sent)), test.size, test.length)
		if (err == nil) != test.ok || test.ok && len(data) != test.sent || errors.Is(err, io.EOF) {
			t.Errorf("%+v: %d bytes, %v", test, len(data), err)
		}
	}
}

func TestVerify(t *testing.T) {
	data := []byte("123456789") // the check value of CRC-32C is e3069283
	if got := ChecksumHeader(Checksum(data)); got != "4waSgw==" {
		t.Errorf("checksum header %s", got)
	}
	for header, want := range map[string]error{"4waSgw==": nil, "": nil, "AAAAAA==-3": nil, "AAAAAA==": bucket.ErrChecksum} {
		if err := Verify(data, header); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("Verify against %q: %v", header, err)
		}
	}
}

func TestSettle(t *testing.T) {
	mine, other := []byte("mine"), []byte("other")
	found := func(data []byte, err error) func() ([]byte, error) {
		return func() ([]byte, error) { return data, err }
	}
	reset := Failure{Cause: &net.OpError{Op: "write", Err: syscall.ECONNRESET}}
	refused := Failure{Cause: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	for name, test := range map[string]struct {
		f         Failure
		get       func() ([]byte, error)
		want      error // nil with ok unset: some error that may pass
		ok        bool
		permanent bool
	}{
		"412, equal":                  {f: Failure{Status: 412, Cause: io.EOF}, get: found(mine, nil), ok: true},
		"409, equal":                  {f: Failure{Status: 409, Cause: io.EOF}, get: found(mine, nil), ok: true},
		"412, other":                  {f: Failure{Status: 412, Cause: io.EOF}, get: found(other, nil), want: bucket.ErrExists, permanent: true},
		"409, not there yet":          {f: Failure{Status: 409, Cause: io.EOF}, get: found(nil, bucket.ErrNotFound)},
		"412, and then no answer":     {f: Failure{Status: 412, Cause: io.EOF}, get: found(nil, syscall.ECONNRESET), want: syscall.ECONNRESET},
		"reset, stored":               {f: reset, get: found(mine, nil), ok: true},
		"reset, another was stored":   {f: reset, get: found(other, nil), want: bucket.ErrExists, permanent: true},
		"reset, nothing there":        {f: reset, get: found(nil, bucket.ErrNotFound), want: syscall.ECONNRESET},
		"reset, and nobody there":     {f: reset, get: found(nil, syscall.ECONNREFUSED), want: syscall.ECONNRESET},
		"never sent, so never looked": {f: refused, get: found(mine, nil), want: syscall.ECONNREFUSED},
	} {
		err := Config{Endpoint: "https://h"}.Settle(test.f, mine, test.get)
		if (err == nil) != test.ok || test.want != nil && !errors.Is(err, test.want) || bucket.IsPermanent(err) != test.permanent {
			t.Errorf("%s: %v", name, err)
		}
	}
}
