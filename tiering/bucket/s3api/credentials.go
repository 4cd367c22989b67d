package s3api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/logcore/logcore/tiering/bucket"
)

// Credentials is an access key with its secret, and where it came from.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string // of temporary credentials; empty for lasting ones
	Source       string // for people: the environment variables or the file
}

// String hides the secret.
func (c Credentials) String() string { return "credentials from " + c.Source }

// GoString hides the secret from %#v.
func (c Credentials) GoString() string { return c.String() }

// Format hides the secret from every verb.
func (c Credentials) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// credentialsFileBytesMax bounds what is read of a credentials file.
const credentialsFileBytesMax = 64 << 10

// fromEnv lists the environment variables in the order in which they are looked for.
var fromEnv = [][3]string{
	{"LOGCORE_S3_ACCESS_KEY", "LOGCORE_S3_SECRET_KEY", "LOGCORE_S3_SESSION_TOKEN"},
	{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
}

// FindCredentials reads the file when one is given, else the environment:
// LOGCORE_S3_ACCESS_KEY and LOGCORE_S3_SECRET_KEY, else AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY. Without any, and for a file that can't be read, the error
// wraps bucket.ErrDenied and says what to set.
func FindCredentials(file string) (Credentials, error) {
	if file != "" {
		return readCredentials(file)
	}
	for _, names := range fromEnv {
		access, secret := os.Getenv(names[0]), os.Getenv(names[1])
		if access == "" && secret == "" {
			continue
		}
		if access == "" || secret == "" {
			return Credentials{}, fmt.Errorf("%w: only one of %s and %s is set: set both", bucket.ErrDenied, names[0], names[1])
		}
		return Credentials{access, secret, os.Getenv(names[2]), names[0] + " and " + names[1]}, nil
	}
	return Credentials{}, fmt.Errorf("%w: no credentials: set %s and %s, or give &credentials=FILE in the target's URL",
		bucket.ErrDenied, fromEnv[0][0], fromEnv[0][1])
}

func readCredentials(file string) (Credentials, error) {
	f, err := os.Open(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: credentials file: %w", bucket.ErrDenied, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, credentialsFileBytesMax+1))
	if err == nil && len(data) > credentialsFileBytesMax {
		err = fmt.Errorf("more than %d bytes", credentialsFileBytesMax)
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: credentials file %s: %w", bucket.ErrDenied, file, err)
	}
	c, err := ParseCredentials(data)
	if err != nil {
		return Credentials{}, fmt.Errorf("%w: credentials file %s: %w", bucket.ErrDenied, file, err)
	}
	c.Source = "file " + file
	return c, nil
}

// ParseCredentials reads lines NAME = VALUE with the names access_key, secret_key and
// session_token, or those of an AWS credentials file (aws_access_key_id, …) with its
// [default] section. Empty lines and lines that begin with # are skipped. Its errors
// name lines, never values.
func ParseCredentials(data []byte) (Credentials, error) {
	var c Credentials
	fields := map[string]*string{
		"access_key": &c.AccessKey, "aws_access_key_id": &c.AccessKey,
		"secret_key": &c.SecretKey, "aws_secret_access_key": &c.SecretKey,
		"session_token": &c.SessionToken, "aws_session_token": &c.SessionToken,
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; scan.Scan(); line++ {
		text := strings.TrimSpace(scan.Text())
		if text == "" || text[0] == '#' || text == "[default]" {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		field := fields[strings.ToLower(strings.TrimSpace(name))]
		switch {
		case !ok:
			return Credentials{}, fmt.Errorf("line %d: want NAME = VALUE", line)
		case field == nil:
			return Credentials{}, fmt.Errorf("line %d: unknown name: want access_key, secret_key or session_token", line)
		case *field != "":
			return Credentials{}, fmt.Errorf("line %d: given twice", line)
		}
		*field = strings.TrimSpace(value)
	}
	if err := scan.Err(); err != nil {
		return Credentials{}, err
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return Credentials{}, fmt.Errorf("want a line access_key = … and a line secret_key = …")
	}
	return c, nil
}
