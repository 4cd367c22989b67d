package main

import (
	"strings"
	"testing"
)

// Only a command that goes on executes itself again for a wide timer slack: for the others that would be a second start for nothing.
func TestServes(t *testing.T) {
	for line, want := range map[string]bool{
		"": false, "dev": true, "dev --dir d": true, "postgres": false, "postgres run x --dir d": true, "postgres attach x": true,
		"postgres basebackup x": false, "log append x": false, "run postgres": false,
	} {
		if got := serves(strings.Fields(line)); got != want {
			t.Errorf("serves(%q) = %v", line, got)
		}
	}
}
