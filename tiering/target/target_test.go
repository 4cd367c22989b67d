package target

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore/internal/s3test"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/buckettest"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

func wantErr(t *testing.T, what string, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that is %v", what, err, want)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: the message doesn't say %q: %v", what, part, err)
		}
	}
}

func TestParse(t *testing.T) {
	for raw, want := range map[string]Spec{
		"dir:///srv/logcore/a1":                                 {Scheme: "dir", Name: "a1", Provider: "local", Region: "local", Path: "/srv/logcore/a1"},
		"dir:///srv/with%20space/?name=a1&provider=a&region=r1": {Scheme: "dir", Name: "a1", Provider: "a", Region: "r1", Path: "/srv/with space"},
		"mem://x":           {Scheme: "mem", Name: "x", Provider: "mem", Region: "local", Path: "x"},
		"s3://my.bucket-1":  {Scheme: "s3", Name: "my.bucket-1", Provider: "aws", Region: "us-east-1", Bucket: "my.bucket-1"},
		"s3://buc?name=big": {Scheme: "s3", Name: "big", Provider: "aws", Region: "us-east-1", Bucket: "buc"},
		"minio://buc?endpoint=https://127.0.0.1:9000/&region=eu&ca=/etc/ca.pem&credentials=/etc/cred": {Scheme: "minio", Name: "buc",
			Provider: "127.0.0.1-9000", Region: "eu", Bucket: "buc", Endpoint: "https://127.0.0.1:9000", CAFile: "/etc/ca.pem", Credentials: "/etc/cred"},
	} {
		got, err := Parse(raw)
		if err != nil {
			t.Errorf("Parse(%s): %v", raw, err)
			continue
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Errorf("Parse(%s): what it prints reads as %+v, %v", raw, again, err)
		}
		got.canonical = ""
		if got != want {
			t.Errorf("Parse(%s):\n got %+v\nwant %+v", raw, got, want)
		}
	}
}

func TestParseReportsEveryBadField(t *testing.T) {
	for raw, parts := range map[string][]string{
		"":             {"scheme"},
		"/srv/a1":      {"scheme", "dir:///"},
		"ftp://x":      {`scheme "ftp"`},
		"dir://srv/a1": {"three slashes"},
		"dir:srv/a1":   {"three slashes"},
		"dir:///":      {"root directory"},
		"dir:///a?name=-x&provider=%20&region=" + strings.Repeat("r", 65): {"field name", "field provider", "field region"},
		"dir:///a?nmae=x&endpoint=y&provider=a&provider=b#frag":           {"field nmae: unknown", "field endpoint: unknown", "field provider: given 2 times", "#frag"},
		"mem://":    {"mem://NAME"},
		"mem://x/y": {"mem://NAME"},
		"s3://":     {"bucket"},
		"s3://UPPER/prefix?endpoint=127.0.0.1:9000&ca=rel.pem&credentials=rel": {"bucket \"UPPER\"", "whole bucket", "field endpoint", "field ca", "field credentials"},
		"minio://bucket":                         {"field endpoint: required"},
		"minio://bucket?endpoint=http://h&ca=/x": {"field ca"},
		"minio://bucket?endpoint=https://h/path": {"field endpoint"},
	} {
		_, err := Parse(raw)
		wantErr(t, raw, err, bucket.ErrInvalid, parts...)
	}
}

func TestParseNeverRepeatsSecrets(t *testing.T) {
	for _, raw := range []string{"s3://AKIAKEY:hunter2@bucket", "s3://AKIAKEY:hunter2@bucket?x=%zz", "ftp://AKIAKEY:hunter2@bucket", "s3://AKIAKEY:hunter2@buc ket", "minio://bucket?endpoint=https://AKIAKEY:hunter2@h"} {
		_, err := Parse(raw)
		if err == nil {
			t.Fatalf("%s was accepted", raw)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the message gives the password away: %v", err)
		}
	}
}

func TestDirTarget(t *testing.T) {
	root := filepath.Join(t.TempDir(), "deep", "a1")
	url := "dir://" + root + "?provider=a&region=r1"
	_, err := Open(t.Context(), url)
	wantErr(t, "Open without a root", err, bucket.ErrGone, root)
	if _, err := os.Stat(filepath.Dir(root)); err == nil {
		t.Fatal("Open made a directory")
	}
	made, err := Init(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Bucket.PutIfAbsent(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened.Bucket.Get(t.Context(), "k", 0, -1); err != nil || string(got) != "v" {
		t.Errorf("%q, %v", got, err)
	}
	if opened.Name != "a1" || opened.Provider != "a" || opened.Region != "r1" || opened.URL != url || opened.String() != "a1 ("+url+")" {
		t.Errorf("%+v", opened)
	}
	if _, err := Init(t.Context(), url); err != nil { // again
		t.Errorf("second Init: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), "dir://"+file)
	wantErr(t, "Open of a file", err, bucket.ErrGone, "not a directory")
	if _, err = Init(t.Context(), "dir://"+file); err == nil {
		t.Error("Init of a file")
	}
}

func TestS3Targets(t *testing.T) {
	clouds := s3test.StartTest(t, s3test.Options{Clouds: []string{"a", "b"}, Buckets: []string{"one"}})
	for _, scheme := range []string{"s3", "minio"} {
		url := clouds.URL(scheme, "a", "one", "a1")
		made, err := Init(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if made.Name != "a1" || made.Provider != "a" || made.Region != "us-east-1" {
			t.Errorf("%+v", made)
		}
		if err := made.Bucket.PutIfAbsent(t.Context(), scheme, []byte("v")); err != nil {
			t.Error(err)
		}
		_, err = Init(t.Context(), clouds.URL(scheme, "b", "absent", "b9"))
		wantErr(t, "Init of an absent bucket", err, bucket.ErrGone, "target b9", "absent")
	}
}

// What somebody with wrong or without credentials is told, for each way to give them.
func TestS3Credentials(t *testing.T) {
	clouds := s3test.StartTest(t, s3test.Options{Clouds: []string{"a"}, Buckets: []string{"one"}})
	good, err := os.ReadFile(clouds.CredentialsFile())
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(strings.Split(string(good), "secret_key = ")[1])
	for _, names := range [][2]string{{"LOGCORE_S3_ACCESS_KEY", "LOGCORE_S3_SECRET_KEY"}, {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}} {
		t.Setenv(names[0], "")
		t.Setenv(names[1], "")
	}
	for _, scheme := range []string{"s3", "minio"} {
		url := strings.ReplaceAll(clouds.URL(scheme, "a", "one", "a1"), "credentials=", "x=")
		url = strings.Join(removeField(url, "x="), "&")
		_, err = Open(t.Context(), url)
		wantErr(t, "no credentials", err, bucket.ErrDenied, "LOGCORE_S3_ACCESS_KEY", "LOGCORE_S3_SECRET_KEY", "credentials=FILE")
		for _, names := range [][2]string{{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, {"LOGCORE_S3_ACCESS_KEY", "LOGCORE_S3_SECRET_KEY"}} {
			t.Run(scheme+names[0], func(t *testing.T) {
				t.Setenv(names[0], "logcore-test")
				_, err := Open(t.Context(), url)
				wantErr(t, "half of them", err, bucket.ErrDenied, names[0], names[1])
				t.Setenv(names[1], "wrong")
				_, err = Init(t.Context(), url)
				wantErr(t, "wrong secret", err, bucket.ErrDenied, "check "+names[0]+" and "+names[1])
				t.Setenv(names[1], secret)
				if _, err = Init(t.Context(), url); err != nil {
					t.Error(err)
				}
			})
		}
		wrong := filepath.Join(t.TempDir(), "wrong")
		if err := os.WriteFile(wrong, []byte("# a comment\n[default]\naws_access_key_id=logcore-test\naws_secret_access_key = wrong\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Init(t.Context(), url+"&credentials="+wrong)
		wantErr(t, "wrong file", err, bucket.ErrDenied, "check file "+wrong)
		_, err = Open(t.Context(), url+"&credentials="+wrong+".absent")
		wantErr(t, "absent file", err, bucket.ErrDenied, wrong+".absent")
	}
}

func removeField(url, field string) (kept []string) {
	for _, part := range strings.Split(url, "&") {
		if prefix, _, found := strings.Cut(part, field); !found {
			kept = append(kept, part)
		} else if prefix != "" {
			kept = append(kept, prefix+"name=a1")
		}
	}
	return kept
}

func TestProbe(t *testing.T) {
	buckets := s3test.Options{Clouds: []string{"a"}, Buckets: []string{"one"}, LockedBuckets: []string{"locked"}, PlainHTTP: true}
	clouds := s3test.StartTest(t, buckets)
	proxy := buckettest.StartProxy(t, clouds.Cloud("a").Endpoint())
	dirURL := "dir://" + t.TempDir()
	credentials, err := s3api.FindCredentials(clouds.CredentialsFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, url       string
		spoil           buckettest.Spoil
		want, retention string
	}{
		{"dir", dirURL, buckettest.Spoil{}, "-checksum conditional-put range read-after-write", "-retention"},
		{"mem", "mem://probe", buckettest.Spoil{}, "-checksum conditional-put range read-after-write", "retention"},
		{"s3", clouds.URL("s3", "a", "one", "a1"), buckettest.Spoil{}, "checksum conditional-put range read-after-write", "-retention"},
		{"minio", clouds.URL("minio", "a", "one", "a1"), buckettest.Spoil{}, "checksum conditional-put range read-after-write", "-retention"},
		{"s3 locked", clouds.URL("s3", "a", "locked", "a1"), buckettest.Spoil{}, "checksum conditional-put range read-after-write", "retention"},
		{"minio locked", clouds.URL("minio", "a", "locked", "a1"), buckettest.Spoil{}, "checksum conditional-put range read-after-write", "retention"},
		// A provider whose conditional put is silently not conditional.
		{"s3 unconditional", clouds.URL("s3", "a", "one", "a1"), buckettest.IgnoreConditions(credentials.AccessKey, credentials.SecretKey), "checksum -conditional-put range read-after-write", "-retention"},
		{"minio unconditional", clouds.URL("minio", "a", "one", "a1"), buckettest.IgnoreConditions(credentials.AccessKey, credentials.SecretKey), "checksum -conditional-put range read-after-write", "-retention"},
		{"s3 unchecked", clouds.URL("s3", "a", "one", "a1"), buckettest.IgnoreChecksums(credentials.AccessKey, credentials.SecretKey), "-checksum conditional-put range read-after-write", "-retention"},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy.Set(test.spoil)
			opened, err := Open(t.Context(), throughProxy(test.url, clouds, proxy))
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Bucket.Close()
			got, err := Probe(t.Context(), opened.Bucket)
			if err != nil || got.String() != test.want {
				t.Errorf("Probe: %v, %v; want %s; missing: %v", got, err, test.want, got.Missing)
			}
			if !got.Has(CapConditionalPut) && !strings.Contains(got.Missing[CapConditionalPut], "replaced the object") {
				t.Errorf("it doesn't say what happened: %v", got.Missing)
			}
			got, err = ProbeRetention(t.Context(), opened.Bucket)
			if err != nil || got.String() != test.retention {
				t.Errorf("ProbeRetention: %v, %v; want %s; missing: %v", got, err, test.retention, got.Missing)
			}
			left := 0
			err = opened.Bucket.List(t.Context(), ProbePrefix, "", func(a bucket.Attributes) bool {
				if !strings.HasSuffix(a.Key, "/retention") {
					t.Errorf("left behind: %s", a.Key)
				}
				left++
				return true
			})
			if err != nil || left > 0 != (test.retention == "retention") {
				t.Errorf("%d objects left behind, %v", left, err)
			}
		})
	}
}

func throughProxy(url string, clouds *s3test.Servers, proxy *buckettest.Proxy) string {
	escape := strings.NewReplacer(":", "%3A", "/", "%2F").Replace
	return strings.ReplaceAll(url, escape(clouds.Cloud("a").Endpoint()), escape(proxy.Endpoint))
}

// A target that can't be asked is an error, not a missing capability.
func TestProbeOfATargetThatIsDown(t *testing.T) {
	made, err := Init(t.Context(), "mem://down")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		faults := bucket.NewFaults(made.Bucket)
		rule := faults.Add(bucket.Fault{From: n, Effect: bucket.Unavailable()})
		got, err := Probe(t.Context(), faults)
		if rule.Hits() == 0 {
			break
		}
		if err == nil && !got.Has(CapReadAfterWrite) {
			t.Errorf("down from call %d on: %v", n, got)
		}
	}
}
