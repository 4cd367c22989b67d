package stripe

import (
	"encoding/binary"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

const (
	mapFile  = "MAP"
	mapMagic = "LCSTRMAP"

	mapHeadBytes  = 8 + 8 + 4 + 4
	mapEntryMin   = 8 + 1 + 1 + 2*stripemap.SetBytes
	mapBodyMax    = mapHeadBytes + stripemap.ServersMax*(mapEntryMin+stripemap.AddressMax)
	mapBytesMax   = headerBytes + mapBodyMax + checksumBytes
	mapDraining   = 1
	mapKnownState = mapDraining
)

// encodeMap encodes a map that is valid.
func encodeMap(m stripemap.Map) []byte {
	body := binary.LittleEndian.AppendUint64(nil, m.Generation)
	body = binary.LittleEndian.AppendUint64(body, m.Incarnation)
	body = binary.LittleEndian.AppendUint32(body, uint32(m.OwnersWanted()))
	body = binary.LittleEndian.AppendUint32(body, uint32(len(m.Servers)))
	for _, s := range m.Servers {
		var state byte
		if s.Draining {
			state = mapDraining
		}
		body = binary.LittleEndian.AppendUint64(body, s.ID)
		body = append(body, state, byte(len(s.Address)))
		body = append(append(append(body, s.Address...), s.Owns.Bytes()...), s.Joins.Bytes()...)
	}
	return encode(mapMagic, 0, body)
}

// decodeMap is the inverse. Errors wrap logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func decodeMap(b []byte) (m stripemap.Map, err error) {
	bad := func(reason string) error {
		return &logcore.CorruptionError{Place: "page server", Object: mapFile, Offset: headerBytes, Reason: reason}
	}
	if len(b) > mapBytesMax {
		return m, bad("longer than a map can be")
	}
	_, body, err := decode(mapFile, mapMagic, 0, anyBody, b)
	if err != nil {
		return m, err
	}
	if len(body) < mapHeadBytes {
		return m, bad("no header of a map")
	}
	m.Generation, m.Incarnation = binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
	m.Owners = int(min(binary.LittleEndian.Uint32(body[16:]), stripemap.OwnersMax+1))
	count := binary.LittleEndian.Uint32(body[20:])
	if body = body[mapHeadBytes:]; count == 0 || count > stripemap.ServersMax {
		return m, bad("an impossible number of page servers")
	}
	for range count {
		if len(body) < mapEntryMin || len(body) < mapEntryMin+int(body[9]) || body[8]&^mapKnownState != 0 {
			return m, bad("a page server that is cut short, or of a state that there is not")
		}
		s := stripemap.Server{ID: binary.LittleEndian.Uint64(body), Draining: body[8] == mapDraining, Address: string(body[10 : 10+int(body[9])])}
		body = body[10+int(body[9]):]
		s.Owns, _ = stripemap.SetOf(body[:stripemap.SetBytes])
		s.Joins, _ = stripemap.SetOf(body[stripemap.SetBytes : 2*stripemap.SetBytes])
		m.Servers, body = append(m.Servers, s), body[2*stripemap.SetBytes:]
	}
	if len(body) > 0 || m.Owners == 0 {
		return m, bad("bytes behind the last page server, or no number of owners")
	}
	if err := m.Validate(); err != nil {
		return m, bad(err.Error())
	}
	return m, nil
}
