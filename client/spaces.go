package client

import (
	"bytes"
	"context"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// SpaceRange says which spaces to list: those with HiFrom <= Hi <= HiThrough.
type SpaceRange struct {
	HiFrom, HiThrough uint64
	// After, when not nil, leaves out the spaces up to it.
	After *engine.Space
	// Limit is the most spaces to return, up to the server's own limit, which 0 means.
	Limit uint32
}

// SpaceInfo is a space that exists.
type SpaceInfo struct {
	Space           engine.Space
	Pages, PageSize uint32
}

// SpaceList is the answer to ListSpaces, in order. More says that there are others after
// the last one: ask again After it, at the same LSN.
type SpaceList struct {
	LSN         logcore.LSN
	Incarnation uint64 // as in PageSet
	Spaces      []SpaceInfo
	More        bool
}

// ListSpaces returns the spaces of a log or branch that exist as of an LSN. Errors are
// those of GetPages.
func (c *Client) ListSpaces(ctx context.Context, log string, of SpaceRange, at ReadAt) (SpaceList, error) {
	ctx, cancel := c.patience(ctx, at.Timeout)
	defer cancel()
	req := &logcorev1.ListSpacesRequest{Log: log, HiFrom: of.HiFrom, HiThrough: of.HiThrough, Limit: of.Limit, Lsn: uint64(at.LSN), TimeoutMs: timeoutMs(at.Timeout), LogId: uint64(at.Log)}
	if of.After != nil {
		req.After = wireSpace(*of.After)
	}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.ListSpacesResponse, error) {
		return p.ListSpaces(ctx, req)
	})
	if err != nil {
		return SpaceList{}, err
	}
	list := SpaceList{LSN: logcore.LSN(resp.Lsn), Incarnation: resp.Incarnation, More: resp.More, Spaces: make([]SpaceInfo, len(resp.Spaces))}
	for i, s := range resp.Spaces {
		list.Spaces[i] = SpaceInfo{engine.Space{Hi: s.Space.GetHi(), Lo: s.Space.GetLo()}, s.Pages, s.PageSize}
	}
	return list, nil
}

// Object is a versioned object as of an LSN. The caller owns its slices.
type Object struct {
	Key []byte
	// Data is nil when there is no such object.
	Data []byte
	// LastLSN is the last change at or before the LSN, a removal included; 0 when there
	// was none.
	LastLSN logcore.LSN
}

// ObjectList is the answer to GetObject and ListObjects, in order of the keys. More says
// that there are others after the last one: ask again after it, at the same LSN.
type ObjectList struct {
	LSN         logcore.LSN
	Incarnation uint64 // as in PageSet
	Objects     []Object
	More        bool
}

// GetObject returns the object with a key as of an LSN: the list has it alone, with a nil
// Data when there is none. It has been checked against its digest. Errors are those of
// GetPages.
func (c *Client) GetObject(ctx context.Context, log string, key []byte, at ReadAt) (ObjectList, error) {
	ctx, cancel := c.patience(ctx, at.Timeout)
	defer cancel()
	req := &logcorev1.GetObjectRequest{Log: log, Key: key, Lsn: uint64(at.LSN), TimeoutMs: timeoutMs(at.Timeout), LogId: uint64(at.Log)}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.GetObjectResponse, error) {
		return p.GetObject(ctx, req)
	})
	if err != nil {
		return ObjectList{}, err
	}
	o := Object{Key: bytes.Clone(key), LastLSN: logcore.LSN(resp.LastLsn)}
	if resp.Found {
		if o, err = c.object(log, &logcorev1.Object{Key: o.Key, Data: resp.Data, Digest: resp.Digest, LastLsn: resp.LastLsn}); err != nil {
			return ObjectList{}, err
		}
	}
	return ObjectList{LSN: logcore.LSN(resp.Lsn), Incarnation: resp.Incarnation, Objects: []Object{o}}, nil
}

// ListObjects returns the objects whose keys begin with prefix and come after another one
// (nil: all), at most limit of them (0: the server's limit), as of an LSN. They have been
// checked against their digests. Errors are those of GetPages.
func (c *Client) ListObjects(ctx context.Context, log string, prefix, after []byte, limit uint32, at ReadAt) (ObjectList, error) {
	ctx, cancel := c.patience(ctx, at.Timeout)
	defer cancel()
	req := &logcorev1.ListObjectsRequest{Log: log, Prefix: prefix, After: after, Limit: limit, Lsn: uint64(at.LSN), TimeoutMs: timeoutMs(at.Timeout), LogId: uint64(at.Log)}
	resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.ListObjectsResponse, error) {
		return p.ListObjects(ctx, req)
	})
	if err != nil {
		return ObjectList{}, err
	}
	list := ObjectList{LSN: logcore.LSN(resp.Lsn), Incarnation: resp.Incarnation, More: resp.More, Objects: make([]Object, len(resp.Objects))}
	for i, o := range resp.Objects {
		if list.Objects[i], err = c.object(log, o); err != nil {
			return ObjectList{}, err
		}
	}
	return list, nil
}

// object checks an object that exists against its digest.
func (c *Client) object(log string, o *logcorev1.Object) (Object, error) {
	if xxh3.Hash(o.Data) != o.Digest {
		return Object{}, &logcore.CorruptionError{Place: "page server " + c.opts.PageAddr, Object: "log " + log + " object " + string(o.Key),
			Offset: -1, LSN: logcore.LSN(o.LastLsn), Reason: "the object does not match its digest"}
	}
	if o.Data == nil {
		o.Data = []byte{}
	}
	return Object{o.Key, o.Data, logcore.LSN(o.LastLsn)}, nil
}
