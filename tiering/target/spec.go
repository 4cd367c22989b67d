package target

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/logcore/logcore/tiering/bucket"
)

// Spec is a target's URL, taken apart and checked.
type Spec struct {
	Scheme   string // dir, mem, s3 or minio
	Name     string // default: the bucket's name, or the last part of the path
	Provider string // default: the scheme and the host of the endpoint, so that two buckets at one endpoint share a failure domain
	Region   string // default: us-east-1 for s3 and minio, else local

	Home   bool   // reading from here is free and near: data fragments go here first
	Prices Prices // what the provider asks; zero = free

	Path string // dir: the absolute path; mem: the store's name

	Bucket      string // s3, minio: the bucket's name
	Endpoint    string // s3, minio: https://host:port; empty means AWS (s3 only)
	CAFile      string // s3, minio: PEM file of the authorities to trust instead of the system's
	Credentials string // s3, minio: file that holds the credentials instead of the environment

	canonical string
}

// NameMax is the longest name, provider or region, in bytes.
const NameMax = 64

// fields lists the query fields of each scheme.
var fields = map[string][]string{
	"dir":   {"name", "provider", "region", "home", "storage", "egress", "puts", "gets"},
	"mem":   {"name", "provider", "region", "home", "storage", "egress", "puts", "gets"},
	"s3":    {"name", "provider", "region", "endpoint", "ca", "credentials", "home", "storage", "egress", "puts", "gets"},
	"minio": {"name", "provider", "region", "endpoint", "ca", "credentials", "home", "storage", "egress", "puts", "gets"},
}

// String returns the URL. It holds no secret.
func (s Spec) String() string { return s.canonical }

// Parse takes a target's URL apart. The error wraps bucket.ErrInvalid and reports every
// bad field, not only the first; it never repeats a password.
func Parse(rawURL string) (Spec, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) { // its own text would repeat the URL, secrets and all
			err = parse.Err
		}
		return Spec{}, fmt.Errorf("%w: target URL: %w", bucket.ErrInvalid, err)
	}
	known, ok := fields[u.Scheme]
	if !ok {
		return Spec{}, fmt.Errorf("%w: target %q: scheme %q: want dir, s3, minio or mem, as in dir:///abs/path?name=a1&provider=a", bucket.ErrInvalid, redacted(u), u.Scheme)
	}
	var bad []error
	badf := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	if u.User != nil {
		badf("user and password don't belong in the URL: set LOGCORE_S3_ACCESS_KEY and LOGCORE_S3_SECRET_KEY, or give &credentials=FILE")
	}
	if u.Fragment != "" {
		badf("fragment #%s: not allowed", u.Fragment)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		badf("query: %w", err)
	}
	for _, field := range sortedKeys(query) {
		switch {
		case !slices.Contains(known, field):
			badf("field %s: unknown for %s; known are %s", field, u.Scheme, strings.Join(known, ", "))
		case len(query[field]) > 1:
			badf("field %s: given %d times", field, len(query[field]))
		}
	}
	s := Spec{Scheme: u.Scheme, Name: query.Get("name"), Provider: query.Get("provider"), Region: query.Get("region")}
	switch u.Scheme {
	case "dir":
		s.parseDir(u, badf)
	case "mem":
		s.parseMem(u, badf)
	default:
		s.parseS3(u, query, badf)
	}
	s.checkLabels(badf)
	s.parsePrices(query, badf)
	if len(bad) > 0 {
		return Spec{}, fmt.Errorf("%w: target %q: %w", bucket.ErrInvalid, redacted(u), errors.Join(bad...))
	}
	s.canonical = u.String()
	return s, nil
}

// redacted is a URL as far as no secret can stand in it by mistake.
func redacted(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path}).String()
}

func sortedKeys(query url.Values) []string {
	keys := make([]string, 0, len(query))
	for k := range query {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type badFunc func(format string, args ...any)

func (s *Spec) parseDir(u *url.URL, badf badFunc) {
	s.Path = filepath.Clean(u.Path)
	switch {
	case u.Host != "" || u.Opaque != "" || !filepath.IsAbs(u.Path):
		badf("path: want an absolute one with three slashes, as in dir:///srv/logcore/a1")
	case s.Path == "/":
		badf("path: the root directory can't be a target")
	}
	s.setDefaults(filepath.Base(s.Path), "local", "local")
}

func (s *Spec) parseMem(u *url.URL, badf badFunc) {
	s.Path = u.Host
	if u.Host == "" || strings.Trim(u.Path, "/") != "" {
		badf("name: want mem://NAME")
	}
	s.setDefaults(u.Host, "mem", "local")
}

func (s *Spec) parseS3(u *url.URL, query url.Values, badf badFunc) {
	s.Bucket, s.Endpoint = u.Host, query.Get("endpoint")
	s.CAFile, s.Credentials = query.Get("ca"), query.Get("credentials")
	if strings.Trim(u.Path, "/") != "" || u.Opaque != "" {
		badf("path %s: not allowed: a target is a whole bucket", u.Path)
	}
	if !validBucketName(s.Bucket) {
		badf("bucket %q: want 3 to 63 of a-z 0-9 . - beginning and ending with a letter or a digit", s.Bucket)
	}
	provider := "aws"
	if s.Endpoint == "" && s.Scheme == "minio" {
		badf("field endpoint: required, as in endpoint=https://minio.example.com:9000")
	}
	if s.Endpoint != "" {
		e, err := url.Parse(s.Endpoint)
		if err != nil || e.Scheme != "https" && e.Scheme != "http" || e.Host == "" || e.User != nil ||
			strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "" {
			badf("field endpoint: want https://HOST[:PORT] and no more")
		} else {
			provider = strings.ReplaceAll(e.Host, ":", "-")
			s.Endpoint = e.Scheme + "://" + e.Host
			if e.Scheme == "http" && s.CAFile != "" {
				badf("field ca: of no use with an http endpoint")
			}
		}
	}
	for _, file := range [][2]string{{"ca", s.CAFile}, {"credentials", s.Credentials}} {
		if file[1] != "" && !filepath.IsAbs(file[1]) {
			badf("field %s: %q: want an absolute path", file[0], file[1])
		}
	}
	s.setDefaults(s.Bucket, provider, "us-east-1")
}

func (s *Spec) setDefaults(name, provider, region string) {
	if s.Name == "" {
		s.Name = path.Base(name)
	}
	if s.Provider == "" {
		s.Provider = provider
	}
	if s.Region == "" {
		s.Region = region
	}
}

func (s *Spec) checkLabels(badf badFunc) {
	for _, label := range [][2]string{{"name", s.Name}, {"provider", s.Provider}, {"region", s.Region}} {
		if !validLabel(label[1]) {
			badf("field %s: %q: want 1 to %d of a-z A-Z 0-9 . _ -, beginning with a letter or a digit", label[0], label[1], NameMax)
		}
	}
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func validLabel(label string) bool {
	if label == "" || len(label) > NameMax || !alnum(label[0]) {
		return false
	}
	for i := range len(label) {
		if c := label[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.ToLower(name) != name || strings.Contains(name, "..") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alnum(c) && (c != '.' && c != '-' || i == 0 || i == len(name)-1) {
			return false
		}
	}
	return true
}
