package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/logcore/logcore/internal/exit"
)

// verify stops the service cleanly and lets verify read every byte of what is left.
func (d *demo) verify(ctx context.Context) error {
	if err := d.service.stop(); err != nil {
		return err
	}
	out, err := d.run(ctx, exit.OK, "verify", "--dir", d.serviceDir(), "-o", "json")
	if err != nil {
		return err
	}
	var found verifyResult
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Errorf("the report of verify: %w", err)
	}
	d.result.Verified = demoVerify{Bytes: found.Bytes, Problems: found.Problems}
	d.say("verified      %d bytes: every one is what was written", found.Bytes)
	return nil
}
