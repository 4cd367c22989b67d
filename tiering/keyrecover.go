package tiering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/logcore/logcore/tiering/erasure"
)

// RecoverKeys makes a keyring from what lies on the targets alone: the wrapped keys that
// objects carry, which kms must unwrap. It is for a restore whose key file is lost. It fails
// with ErrNoArchive when no object with a wrapped key is found, and with ErrKeyUnavailable
// when the service does not answer. The last of the keys is the current one.
//
// A listing is a hint only: what is found counts because the key service unwraps it to the
// key that its id names.
func RecoverKeys(ctx context.Context, targets []Target, kms KMS) (*KMSKeyring, error) {
	ring := newKMSKeyring(kms, nil)
	found, errs := carriedKeys(ctx, newRemotes(targets, 30*time.Second))
	var order []KeyID
	for _, k := range found {
		if slices.Contains(order, k.id) {
			continue
		}
		switch err := ring.Learn(ctx, k.id, k.wrapped); {
		case errors.Is(err, ErrKeyFile):
			errs = append(errs, err) // forged, or another service's: others may be right
		case err != nil:
			return nil, err
		default:
			order = append(order, k.id)
		}
	}
	if len(order) == 0 {
		return nil, errors.Join(append([]error{fmt.Errorf("%w: no object with a wrapped key", ErrNoArchive)}, errs...)...)
	}
	entries := make([]keyEntry, len(order))
	for i, id := range order {
		entries[i] = keyEntry{id: id, wrapped: ring.Wrapped(id)}
	}
	return newKMSKeyring(kms, entries), nil
}

// carried is an object as the targets list it.
type carried struct {
	key       func(index int) string
	fragments map[int][]*remote
}

// carriedKeys returns the wrapped keys of the objects on the targets, oldest first. Keys only
// ever change for a newer one, so between two objects of one key there is no other.
func carriedKeys(ctx context.Context, remotes []*remote) (out []keyEntry, errs []error) {
	objects := map[string]*carried{}
	for _, r := range remotes {
		listed, err := r.list(ctx, rootPrefix, "")
		if err != nil {
			errs = append(errs, err)
		}
		for _, a := range listed {
			l, ok := parseLocation(a.Key)
			n, index, isFragment := parseFragmentKey(l.Cluster, l.Shard, a.Key)
			if !ok || !isFragment {
				continue
			}
			key := func(i int) string { return n.key(l.Cluster, l.Shard, i) }
			if objects[key(0)] == nil {
				objects[key(0)] = &carried{key, map[int][]*remote{}}
			}
			o := objects[key(0)]
			o.fragments[index] = append(o.fragments[index], r)
		}
	}
	names := slices.Sorted(maps.Keys(objects)) // in the order of LSNs
	known := make(map[int]keyEntry, 16)
	look := func(i int) keyEntry {
		e, ok := known[i]
		if !ok {
			var err error
			if e, err = objects[names[i]].wrappedKey(ctx); err != nil {
				errs = append(errs, err) // the others may be whole
			}
			known[i] = e
		}
		return e
	}
	var between func(from, to int)
	between = func(from, to int) {
		if a, b := look(from), look(to); to-from > 1 && (a.id != b.id || a.wrapped == nil) {
			mid := (from + to) / 2
			between(from, mid)
			between(mid, to)
		}
	}
	if len(names) > 0 {
		between(0, len(names)-1)
	}
	for _, i := range slices.Sorted(maps.Keys(known)) {
		if known[i].wrapped != nil {
			out = append(out, known[i])
		}
	}
	return out, errs
}

// wrappedKey reads the wrapped key that an object carries. One that carries none gives an
// entry without.
func (o *carried) wrappedKey(ctx context.Context) (e keyEntry, err error) {
	var h objectHeader
	if h, err = o.header(ctx); err != nil || len(h.wrapped) == 0 {
		return e, err
	}
	return keyEntry{id: h.keyID, wrapped: h.wrapped}, nil
}

// frontBytes hold the header of nearly every object: fixed fields, a wrapped key, and the
// index of hundreds of chunks.
const frontBytes = 16 << 10

// header reads an object's header: from the front of its first fragment, or, when that is
// lost or too short to hold it, from as many fragments as it takes.
func (o *carried) header(ctx context.Context) (h objectHeader, err error) {
	for _, r := range o.fragments[0] {
		front, getErr := r.get(ctx, o.key(0), 0, erasure.HeaderBytes+frontBytes)
		if getErr == nil && len(front) > erasure.HeaderBytes {
			if h, err = parseObjectHeader(front[erasure.HeaderBytes:]); err == nil {
				return h, nil
			}
		}
	}
	var pieces [erasure.FragmentsMax][]byte
	var meta erasure.Meta
	for i, on := range o.fragments {
		for _, r := range on {
			data, getErr := r.get(ctx, o.key(i), 0, -1)
			f, parseErr := erasure.ParseHeader(data)
			if getErr != nil || parseErr != nil || i >= len(pieces) {
				err = cmpErr(getErr, parseErr)
				continue
			}
			pieces[i], meta = data, f.Meta
		}
	}
	if meta.K == 0 {
		return h, fmt.Errorf("tiering: no fragment of %s can be read: %w", o.key(0), err)
	}
	object, _, err := erasure.Rebuild(meta, pieces[:meta.K+meta.M])
	if err != nil {
		return h, fmt.Errorf("tiering: %s: %w", o.key(0), err)
	}
	return parseObjectHeader(object)
}
