package s3api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/logcore/logcore/tiering/bucket"
)

// Failure is what a client knows about a call that failed.
type Failure struct {
	Status  int    // HTTP status; 0 when no answer came
	Code    string // S3 error code; empty when there was none, as for HEAD
	Message string // the provider's own words
	Cause   error  // the client's error
}

// codes says what an error code means, where the status alone would mislead.
var codes = map[string]error{
	"NoSuchKey": bucket.ErrNotFound, "NoSuchVersion": bucket.ErrNotFound,
	"NoSuchBucket": bucket.ErrGone,
	"BadDigest":    bucket.ErrChecksum, "XAmzContentChecksumMismatch": bucket.ErrChecksum,
	"XAmzContentSHA256Mismatch": bucket.ErrChecksum, "InvalidDigest": bucket.ErrChecksum,
	"QuotaExceeded": bucket.ErrFull, "QuotaExceededException": bucket.ErrFull, "InsufficientStorage": bucket.ErrFull,
	"XMinioStorageFull": bucket.ErrFull, "XMinioAdminBucketQuotaExceeded": bucket.ErrFull,
	"SlowDown": bucket.ErrThrottled, "SlowDownWrite": bucket.ErrThrottled, "SlowDownRead": bucket.ErrThrottled,
	"Throttling": bucket.ErrThrottled, "ThrottlingException": bucket.ErrThrottled,
	"RequestLimitExceeded": bucket.ErrThrottled, "TooManyRequests": bucket.ErrThrottled,
	"RequestTimeTooSkewed": bucket.ErrDenied, "ExpiredToken": bucket.ErrDenied, "InvalidToken": bucket.ErrDenied,
	"XAdminUserNotFound": bucket.ErrDenied, "InvalidAccessKeyId": bucket.ErrDenied, "SignatureDoesNotMatch": bucket.ErrDenied,
	"PermanentRedirect": errRegion, "AuthorizationHeaderMalformed": errRegion, "InvalidRegion": errRegion,
	"IllegalLocationConstraintException": errRegion,
	"InvalidRequest":                     bucket.ErrInvalid, "InvalidArgument": bucket.ErrInvalid, "EntityTooLarge": bucket.ErrInvalid,
	"ObjectLockConfigurationNotFoundError": bucket.ErrInvalid,
	"ObjectLocked":                         bucket.ErrRetention, "InvalidObjectState": bucket.ErrRetention,
}

var errRegion = fmt.Errorf("%w: the bucket is in another region: check region= and endpoint= in the target's URL", bucket.ErrInvalid)

// statuses says what a status means when the code says nothing.
var statuses = map[int]error{
	http.StatusUnauthorized: bucket.ErrDenied, http.StatusForbidden: bucket.ErrDenied, http.StatusMethodNotAllowed: bucket.ErrDenied,
	http.StatusNotFound:            bucket.ErrNotFound,
	http.StatusTooManyRequests:     bucket.ErrThrottled,
	http.StatusInsufficientStorage: bucket.ErrFull,
	http.StatusMovedPermanently:    errRegion, http.StatusTemporaryRedirect: errRegion, http.StatusPermanentRedirect: errRegion,
	http.StatusNotImplemented: fmt.Errorf("%w: the provider doesn't offer this", bucket.ErrInvalid),
}

// Error returns the failure as an error that callers can branch on and people can act
// on. Conditional puts (409, 412) are the caller's: see Compare.
func (c Config) Error(f Failure) error {
	if f.Cause == nil {
		return nil
	}
	if errors.Is(f.Cause, context.Canceled) || errors.Is(f.Cause, context.DeadlineExceeded) {
		return f.Cause
	}
	if f.Status == 0 {
		return c.connectionError(f.Cause)
	}
	known, ok := codes[f.Code]
	if !ok {
		known = statuses[f.Status]
	}
	said := strings.TrimSpace(fmt.Sprintf("%d %s %s", f.Status, f.Code, f.Message))
	switch {
	case known == nil:
		return fmt.Errorf("the provider answered %s", said)
	case f.Code == "RequestTimeTooSkewed":
		return fmt.Errorf("%w: %s: check this machine's clock", known, said)
	case errors.Is(known, bucket.ErrDenied):
		return fmt.Errorf("%w: %s: check %s", known, said, c.Credentials.Source)
	}
	return fmt.Errorf("%w: %s", known, said)
}

// connectionError tells a certificate that will never be trusted, which is permanent,
// from a connection that may work the next time.
func (c Config) connectionError(err error) error {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		trusted := "the system's authorities; give the provider's own with &ca=FILE"
		if c.CAFile != "" {
			trusted = c.CAFile + " (ca= in the target's URL)"
		}
		return fmt.Errorf("%w: %w: trusted are %s", bucket.ErrUntrusted, err, trusted)
	}
	return fmt.Errorf("no answer from %s: %w", c.endpointName(), err)
}

func (c Config) endpointName() string {
	if c.Endpoint == "" {
		return "AWS S3 in " + c.Region
	}
	return c.Endpoint
}

// Conflict reports whether a failed conditional put means that the key exists (412), or
// that another put of it is under way (409).
func (f Failure) Conflict() bool {
	return f.Status == http.StatusPreconditionFailed || f.Status == http.StatusConflict
}

// Interrupted reports whether the connection broke while a put was under way, so that
// nobody knows what became of it. A provider that refuses a conditional put may close
// the connection in the middle of the body, and its answer is lost in the reset; one
// that stored it may have died before it said so.
func (f Failure) Interrupted() bool {
	var op *net.OpError
	notSent := errors.As(f.Cause, &op) && op.Op == "dial"
	return f.Status == 0 && !notSent && !errors.Is(f.Cause, context.Canceled) && !errors.Is(f.Cause, context.DeadlineExceeded)
}

// Settle turns a failed conditional put into its result. get reads the whole object. A
// conflict is compared; an interrupted put is looked up once and stands when the object
// is there; everything else is what Error makes of it.
func (c Config) Settle(f Failure, data []byte, get func() ([]byte, error)) error {
	if f.Conflict() {
		return Compare(f, data, get)
	}
	if f.Interrupted() {
		if stored, err := get(); err == nil && bytes.Equal(stored, data) {
			return nil
		} else if err == nil {
			return bucket.ErrExists
		}
	}
	return c.Error(f)
}

// Compare settles a conflict: nil when the object that is there has the same bytes,
// bucket.ErrExists when it has others. When there is none after all, the other put is
// still under way or failed, and the error is one to try again.
func Compare(f Failure, data []byte, get func() ([]byte, error)) error {
	stored, err := get()
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return fmt.Errorf("another put of this key is under way (%d %s)", f.Status, f.Code)
	case err != nil:
		return fmt.Errorf("compare with the object that exists: %w", err)
	case !bytes.Equal(stored, data):
		return bucket.ErrExists
	}
	return nil
}
