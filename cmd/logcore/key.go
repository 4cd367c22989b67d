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
	cmd.AddCommand(a.keyPublicCommand(), generate, a.keyRotateCommand(), a.keyListCommand())
	return cmd
}

func (a *app) keyRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a new key to a key file; what was sealed under the others stays readable",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ring, err := tiering.RotateKeyFile(args[0])
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.writeJSON(map[string]any{"file": args[0], "key_id": ring.Current().String(), "keys": len(ring.IDs())})
			}
			_, err = fmt.Fprintf(a.out, "added key %v to %s, which holds %d. The service seals under it from its next start on. Replace your copies of the file.\n",
				ring.Current(), args[0], len(ring.IDs()))
			return err
		},
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) keyListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls FILE",
		Short: "List the ids of the keys in a key file, oldest first; the keys themselves are not shown",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ring, err := tiering.LoadKeyFile(args[0])
			if err != nil {
				return err
			}
			ids := []string{}
			rows := [][]string{}
			for _, id := range ring.IDs() {
				use := ""
				if id == ring.Current() {
					use = "new objects are sealed under it"
				}
				ids, rows = append(ids, id.String()), append(rows, []string{id.String(), use})
			}
			if a.format == "json" {
				return a.writeJSON(map[string]any{"file": args[0], "keys": ids, "current": ring.Current().String()})
			}
			return a.writeTable([]string{"KEY", "USE"}, rows)
		},
	}
	a.outputFlag(cmd)
	return cmd
}
