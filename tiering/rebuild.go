package tiering

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore/tiering/erasure"
)

// rebuild returns all fragments of an object: from those that are left, or, when too
// few are, from the hot tier while that has its entries still.
func (a *Archiver) rebuild(ctx context.Context, o *object) ([][]byte, error) {
	fragments, err := a.Reader().rebuildFragments(ctx, o)
	if !errors.Is(err, ErrTooFewFragments) {
		return fragments, err
	}
	fragments, hotErr := a.fragmentsFromSource(ctx, o)
	if hotErr != nil {
		return nil, fmt.Errorf("%w; nor from the hot tier: %w", err, hotErr)
	}
	a.log.Info("rebuilt an object from the hot tier", "object", o.describe())
	return fragments, nil
}

// fragmentsFromSource seals and codes the object's entries once more. The same entries
// become the same bytes, which the manifest's checksums prove.
func (a *Archiver) fragmentsFromSource(ctx context.Context, o *object) ([][]byte, error) {
	span, err := a.o.Source.ReadSpan(ctx, o.First, o.Last, o.rawBytes)
	if err != nil {
		return nil, err
	}
	// A tail was made before its segment was sealed, or after.
	for _, sealed := range []bool{span.Sealed, !span.Sealed} {
		for _, c := range compressions {
			span.Sealed = sealed
			object, err := sealObject(ctx, a.o.Keys, o.KeyID, a.o.Cluster, span, c)
			if err != nil {
				return nil, err
			}
			if erasure.DigestOf(o.Meta, object) != o.Digest {
				continue
			}
			_, fragments, err := erasure.Encode(o.Meta, object)
			return fragments, err
		}
	}
	return nil, fmt.Errorf("%s made anew from the hot tier is not what the manifest says", o.describe())
}
