package client

import (
	"context"
	"time"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// StoreCheckpoint is how the checkpoints of one store of a page server are.
type StoreCheckpoint struct {
	// Place is where they are, empty when none are made.
	Place string
	// Epoch under which the page server makes them, 0 when it does not.
	Epoch uint64
	// StandingBy: another page server makes them.
	StandingBy bool
	// Number and Created are of the last one that was made or begun from.
	Number  uint64
	Created time.Time
	// Tables and Bytes are what it holds.
	Tables, Bytes uint64
	// BeganFrom is the one that the store began from in this process, 0 for none.
	BeganFrom uint64
	// BeganIn is the store that that one is of, when it is another store.
	BeganIn string
	// Borrowed is the other store whose checkpoint it needs still, empty when it needs none.
	Borrowed string
	// MissingBytes are in the checkpoint and not local yet.
	MissingBytes uint64
	// Error is why the last one failed, empty when it did not.
	Error string
}

// Checkpoint lets the page server make a checkpoint of its stores now. It returns when
// they are committed.
func (c *Client) Checkpoint(ctx context.Context) ([]StoreCheckpoint, error) {
	resp, err := unaryPages(ctx, c, func(ctx context.Context, pages logcorev1.PageServiceClient) (*logcorev1.CheckpointResponse, error) {
		return pages.Checkpoint(ctx, &logcorev1.CheckpointRequest{})
	})
	if err != nil {
		return nil, err
	}
	return storeCheckpoints(resp.Stores), nil
}

// CheckpointStatus asks the page server how its checkpoints are.
func (c *Client) CheckpointStatus(ctx context.Context) ([]StoreCheckpoint, error) {
	resp, err := unaryPages(ctx, c, func(ctx context.Context, pages logcorev1.PageServiceClient) (*logcorev1.CheckpointStatusResponse, error) {
		return pages.CheckpointStatus(ctx, &logcorev1.CheckpointStatusRequest{})
	})
	if err != nil {
		return nil, err
	}
	return storeCheckpoints(resp.Stores), nil
}

func storeCheckpoints(stores []*logcorev1.StoreCheckpoint) []StoreCheckpoint {
	var out []StoreCheckpoint
	for _, s := range stores {
		st := StoreCheckpoint{Place: s.Place, Epoch: s.Epoch, StandingBy: s.StandingBy, Number: s.Number, Tables: s.Tables, Bytes: s.Bytes,
			BeganFrom: s.BeganFrom, BeganIn: s.BeganIn, Borrowed: s.Borrowed, MissingBytes: s.MissingBytes, Error: s.Error}
		if s.CreatedUnixMs > 0 {
			st.Created = time.UnixMilli(int64(min(s.CreatedUnixMs, 1<<53)))
		}
		out = append(out, st)
	}
	return out
}
