package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/tiering"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make the key that the archive is encrypted with"}
	generate := &cobra.Command{
		Use:   "generate FILE",
		Short: "Write a new random key to a file; a file that exists is never replaced",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ring, err := tiering.GenerateKeyFile(args[0])
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists: an archive may depend on it, so it is not replaced; name another file", args[0])
			}
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.writeJSON(map[string]string{"file": args[0], "key_id": ring.Current().String()})
			}
			_, err = fmt.Fprintf(a.out, "wrote key %v to %s. Keep a copy in a safe place: without it the archive can't be read.\n", ring.Current(), args[0])
			return err
		},
	}
	a.outputFlag(generate)
	cmd.AddCommand(generate)
	return cmd
}
