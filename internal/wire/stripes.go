package wire

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// StripeMap returns a map of stripes in its wire form, without leases.
func StripeMap(m stripemap.Map) *logcorev1.StripeMap {
	out := &logcorev1.StripeMap{Incarnation: m.Incarnation, Generation: m.Generation, Owners: uint32(m.OwnersWanted())}
	for _, s := range m.Servers {
		out.Servers = append(out.Servers, &logcorev1.PageServer{Id: s.ID, Address: s.Address, Draining: s.Draining, Owns: s.Owns.Bytes(), Joins: s.Joins.Bytes()})
	}
	return out
}

// FromStripeMap is the inverse; nil gives a map without servers. An impossible map is an
// error that wraps logcore.ErrInvalid.
func FromStripeMap(in *logcorev1.StripeMap) (stripemap.Map, error) {
	m := stripemap.Map{Incarnation: in.GetIncarnation(), Generation: in.GetGeneration(), Owners: int(min(in.GetOwners(), stripemap.OwnersMax+1))}
	if len(in.GetServers()) > stripemap.ServersMax {
		return m, fmt.Errorf("%w: a stripe map of %d page servers", logcore.ErrInvalid, len(in.Servers))
	}
	for _, s := range in.GetServers() {
		owns, ok1 := stripemap.SetOf(s.Owns)
		joins, ok2 := stripemap.SetOf(s.Joins)
		if !ok1 || !ok2 {
			return m, fmt.Errorf("%w: page server %016x in a stripe map: sets of %d and %d bytes", logcore.ErrInvalid, s.Id, len(s.Owns), len(s.Joins))
		}
		m.Servers = append(m.Servers, stripemap.Server{ID: s.Id, Address: s.Address, Draining: s.Draining, Owns: owns, Joins: joins})
	}
	return m, m.Validate()
}
