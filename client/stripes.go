package client

import (
	"context"
	"time"

	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// StripeMap says who serves the pages of which stripes.
type StripeMap struct {
	stripemap.Map
	// LeaseLeft is how long the lease of each page server still runs, by id; 0 when it is
	// not there.
	LeaseLeft map[uint64]time.Duration
}

func stripeMap(in *logcorev1.StripeMap) (StripeMap, error) {
	m, err := wire.FromStripeMap(in)
	out := StripeMap{Map: m, LeaseLeft: map[uint64]time.Duration{}}
	for _, s := range in.GetServers() {
		out.LeaseLeft[s.Id] = time.Duration(s.LeaseLeftMs) * time.Millisecond
	}
	return out, err
}

// StripeMap returns the map as the log service has it. Without page servers in it pages
// are not striped.
func (c *Client) StripeMap(ctx context.Context) (StripeMap, error) {
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.GetStripeMapResponse, error) {
		return m.stripes.GetStripeMap(ctx, &logcorev1.GetStripeMapRequest{})
	})
	if err != nil {
		return StripeMap{}, err
	}
	return stripeMap(resp.Map)
}

// PageServerReport is what a page server says about itself.
type PageServerReport struct {
	ID      uint64
	Address string // where clients reach it, HOST:PORT
	Ready   stripemap.Set
	Empty   bool // it has no pages at all
}

// ReportPageServer tells the log service that a page server is there and what it has in
// full, and returns the id it is to use from now on, the map, and how long its lease is. An
// address that another page server has is an error that wraps logcore.ErrInvalid.
func (c *Client) ReportPageServer(ctx context.Context, r PageServerReport) (uint64, StripeMap, time.Duration, error) {
	req := &logcorev1.ReportPageServerRequest{Id: r.ID, Address: r.Address, Ready: r.Ready.Bytes(), Empty: r.Empty}
	resp, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ReportPageServerResponse, error) {
		return m.stripes.ReportPageServer(ctx, req)
	})
	if err != nil {
		return 0, StripeMap{}, 0, err
	}
	m, err := stripeMap(resp.Map)
	return resp.Id, m, time.Duration(resp.LeaseMs) * time.Millisecond, err
}

// DrainPageServer has every stripe of a page server taken over by others, or, with false,
// ends that. It serves what it has until others do; StripeMap shows how far it is.
func (c *Client) DrainPageServer(ctx context.Context, id uint64, draining bool) error {
	_, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.DrainPageServerResponse, error) {
		return m.stripes.DrainPageServer(ctx, &logcorev1.DrainPageServerRequest{Id: id, Draining: draining})
	})
	return err
}

// RemovePageServer forgets a page server that holds nothing. One that still holds stripes
// is an error that wraps logcore.ErrInvalid.
func (c *Client) RemovePageServer(ctx context.Context, id uint64) error {
	_, err := unary(ctx, c, "", notIdempotent, func(ctx context.Context, m *member) (*logcorev1.RemovePageServerResponse, error) {
		return m.stripes.RemovePageServer(ctx, &logcorev1.RemovePageServerRequest{Id: id})
	})
	return err
}

// SetStripeOwners says how many page servers shall hold each stripe, 1 to 4.
func (c *Client) SetStripeOwners(ctx context.Context, owners int) error {
	_, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.SetStripeOwnersResponse, error) {
		return m.stripes.SetStripeOwners(ctx, &logcorev1.SetStripeOwnersRequest{Owners: uint32(max(owners, 0))})
	})
	return err
}
