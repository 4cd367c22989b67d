package tiering

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/logcore/logcore"
)

// PublicKey is the public half of a key pair that signs the manifest. Who holds it can
// tell that nobody without the key file has written a record, and can forge none.
type PublicKey [ed25519.PublicKeySize]byte

// String returns 64 hexadecimal digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// ParsePublicKey reads what String writes. The error wraps logcore.ErrInvalid.
func ParsePublicKey(text string) (k PublicKey, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("%w: public key %q: want %d hexadecimal digits, as `logcore key public FILE` prints them", logcore.ErrInvalid, text, 2*len(k))
	}
	return PublicKey(b), nil
}

// SigningKey returns the public key that records are verified with which were signed
// under a master key.
func SigningKey(ctx context.Context, keys KeyProvider, id KeyID) (PublicKey, error) {
	private, err := signingKey(ctx, keys, id)
	if err != nil {
		return PublicKey{}, err
	}
	return publicOf(private), nil
}

// signingKey derives the key pair of a master key: whoever can archive can sign, and
// there is no second secret to keep or to lose.
func signingKey(ctx context.Context, keys KeyProvider, id KeyID) (ed25519.PrivateKey, error) {
	seed, err := keys.Derive(ctx, id, nil, "logcore manifest signing key v1")
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

func publicOf(private ed25519.PrivateKey) PublicKey {
	return PublicKey(private[ed25519.SeedSize:])
}

// PublicKeys is what an auditor has in the place of a key file: the public keys that he
// was given, apart from the archive, and trusts. With it Verify proves that every record
// was signed by their owner, without being able to read or forge anything.
type PublicKeys []PublicKey

var _ KeyProvider = PublicKeys(nil)

// Current returns no key: nothing can be sealed or signed with public keys.
func (PublicKeys) Current() KeyID { return KeyID{} }

// Derive fails with ErrKeyNotFound.
func (PublicKeys) Derive(_ context.Context, id KeyID, _ []byte, _ string) (out [32]byte, err error) {
	return out, fmt.Errorf("%w: %v: there are only public keys here, and this needs the key file", ErrKeyNotFound, id)
}

// opens reports whether objects can be opened with keys.
func opens(keys KeyProvider) bool {
	_, public := keys.(PublicKeys)
	return keys != nil && !public
}

// signer is a key pair that signs the manifest, as the records list it. The list is the
// same all along the chain and only grows; the last one signs.
type signer struct {
	keyID  KeyID     // the master key that the pair is derived from
	public PublicKey //
	since  uint64    // number of the first record that it signed
	vouch  [64]byte  // signature by the signer before over this one; zeros for the first
}

// vouched is what a signer's predecessor signs.
func (s signer) vouched(cluster [16]byte, shard logcore.ShardID) []byte {
	b := append([]byte("logcore manifest signer v1\x00"), cluster[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(shard))
	b = append(append(b, s.keyID[:]...), s.public[:]...)
	return binary.LittleEndian.AppendUint64(b, s.since)
}

// newSigner returns the signers with the pair of a master key added: the first one, or
// one that the last one vouches for.
func newSigner(ctx context.Context, keys KeyProvider, r *record, before []signer) ([]signer, error) {
	id := keys.Current()
	public, err := SigningKey(ctx, keys, id)
	if err != nil {
		return nil, err
	}
	s := signer{keyID: id, public: public, since: r.number}
	if len(before) > 0 {
		private, err := signingKey(ctx, keys, before[len(before)-1].keyID)
		if err != nil {
			return nil, err
		}
		s.vouch = [64]byte(ed25519.Sign(private, s.vouched(r.cluster, r.shard)))
	}
	return append(slices.Clone(before), s), nil
}

// signing returns who signs a record: the newest signer, and when that is new also the
// one before.
func (r *record) signing() []signer {
	n := 1
	if r.kind == recordKeys {
		n = 2
	}
	return r.signers[max(0, len(r.signers)-n):]
}

// signedBytes is what a signature covers, with the purpose in front, so that it can't
// pass for a signature of anything else.
func signedBytes(covered []byte) []byte {
	return append([]byte("logcore manifest record v2\x00"), covered...)
}

// checkSigners checks the list and that whoever wrote the record is trusted: with a key
// file the pair must be the one that follows from it; with public keys one of the list
// must be among them, and those after it vouched for. nil trusts any.
func (r *record) checkSigners(ctx context.Context, keys KeyProvider) error {
	for i, s := range r.signers[1:] {
		before := r.signers[i].public
		if !ed25519.Verify(before[:], s.vouched(r.cluster, r.shard), s.vouch[:]) {
			return damaged(-1, "signer %v is not vouched for by the one before, %v", s.keyID, r.signers[i].keyID)
		}
	}
	if keys == nil {
		return nil
	}
	if pinned, ok := keys.(PublicKeys); ok {
		for _, s := range r.signers {
			if slices.Contains(pinned, s.public) {
				return nil
			}
		}
		last := r.signers[len(r.signers)-1]
		return fmt.Errorf("%w: the record is signed by key %v with public key %v, which is none of those given: get the right one from the archive's owner", ErrUnknownSigner, last.keyID, last.public)
	}
	for _, s := range r.signing() {
		public, err := SigningKey(ctx, keys, s.keyID)
		if errors.Is(err, ErrKeyNotFound) && r.vouchedBy(ctx, keys) {
			return fmt.Errorf("%w: %w", errNewerKey, err)
		}
		if err != nil {
			return err
		}
		if public != s.public {
			return damaged(-1, "the record is not authentic: it was not signed with key %v", s.keyID)
		}
	}
	return nil
}

// errNewerKey: the archive is signed with a key that a known one vouches for, so that it is
// known to be authentic, though not what it says. The key file is an older copy.
var errNewerKey = errors.New("the archive's key was changed since this key file was copied")

// vouchedBy reports whether a signer before those that sign is one of keys.
func (r *record) vouchedBy(ctx context.Context, keys KeyProvider) bool {
	for _, s := range r.signers {
		if public, err := SigningKey(ctx, keys, s.keyID); err == nil && public == s.public {
			return true
		}
	}
	return false
}

// followsSigners reports whether the list of a record continues the one of the state before.
func followsSigners(before []signer, r *record) bool {
	grown := len(r.signers) - len(before)
	switch {
	case len(before) == 0: // the first record, or the first one after those of version 1
		return r.kind != recordKeys
	case !slices.Equal(r.signers[:min(len(before), len(r.signers))], before):
		return false
	}
	return grown == 0 && r.kind != recordKeys || grown == 1 && r.kind == recordKeys
}
