package sampledb

import (
	"context"
	"fmt"
)

// Load fills the tables, RowsPerTx rows to a transaction, and returns the number of
// rows. On a sample that a Load before left half done it goes on where that ended.
func (s *Session) Load(ctx context.Context) (int64, error) {
	var total int64
	for _, t := range tables(s.opts.CharactersMax) {
		have, err := s.number(`SELECT count(*) FROM ` + t.name)
		if err != nil {
			return total, err
		}
		total += have
		for rest := t.rows[min(int(have), len(t.rows)):]; len(rest) > 0; {
			batch := rest[:min(s.opts.RowsPerTx, len(rest))]
			rest = rest[len(batch):]
			err := s.transaction(ctx, "load "+t.name, func() error {
				for _, r := range batch {
					if err := s.exec(t.insert, r...); err != nil {
						return fmt.Errorf("row %v: %w", r, err)
					}
				}
				return nil
			})
			if err != nil {
				return total, err
			}
			total += int64(len(batch))
		}
	}
	return total, nil
}
