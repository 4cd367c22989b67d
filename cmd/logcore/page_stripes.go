package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

type pageServerJSON struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	Draining bool   `json:"draining"`
	Owns     int    `json:"owns"`
	Joins    int    `json:"joins"`
	LeaseMs  int64  `json:"lease_ms"`
}

type stripeJSON struct {
	Stripe int      `json:"stripe"`
	Owners []string `json:"owners"`
}

func (a *app) pageStripesCommand() *cobra.Command {
	var owners int
	cmd := &cobra.Command{
		Use:   "stripes",
		Short: "Show which page server has which stripe, or say how many shall have each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				if owners != 0 {
					return c.SetStripeOwners(ctx, owners)
				}
				m, err := c.StripeMap(ctx)
				if err != nil {
					return err
				}
				list := []stripeJSON{}
				for _, stripe := range m.Owned().Stripes() {
					s := stripeJSON{Stripe: stripe, Owners: []string{}}
					for _, o := range m.OwnersOf(stripe) {
						s.Owners = append(s.Owners, o.Address)
					}
					list = append(list, s)
				}
				if a.format == "json" {
					return a.writeJSON(map[string]any{"generation": m.Generation, "owners": m.OwnersWanted(), "stripes": list})
				}
				fmt.Fprintf(a.out, "generation %d, %d owners for each stripe, %d page servers\n", m.Generation, m.OwnersWanted(), len(m.Servers))
				for _, s := range list {
					fmt.Fprintf(a.out, "%3d  %v\n", s.Stripe, s.Owners)
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&owners, "owners", 0, "have each stripe held by so many page servers, 1 to 4")
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

func (a *app) pageServerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Show and steer the page servers that share pages",
		Long: "Show and steer the page servers that share pages. One is added by starting it: pageserver --advertise HOST:PORT."}
	cmd.AddCommand(a.pageServerListCommand(),
		a.pageServerActCommand("drain", "Have others take over everything a page server has", func(ctx context.Context, c *client.Client, id uint64) error { return c.DrainPageServer(ctx, id, true) }),
		a.pageServerActCommand("undrain", "Let a page server that was drained have pages again", func(ctx context.Context, c *client.Client, id uint64) error { return c.DrainPageServer(ctx, id, false) }),
		a.pageServerActCommand("remove", "Forget a page server that has nothing", func(ctx context.Context, c *client.Client, id uint64) error { return c.RemovePageServer(ctx, id) }))
	return cmd
}

func (a *app) pageServerListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the page servers that share pages",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				m, err := c.StripeMap(ctx)
				if err != nil {
					return err
				}
				list, rows := []pageServerJSON{}, [][]string{}
				for _, s := range m.Servers {
					left := m.LeaseLeft[s.ID]
					list = append(list, pageServerJSON{fmt.Sprintf("%016x", s.ID), s.Address, s.Draining, s.Owns.Len(), s.Joins.Len(), left.Milliseconds()})
					state := "serves"
					switch {
					case left == 0:
						state = "lost"
					case s.Draining:
						state = "draining"
					}
					rows = append(rows, []string{fmt.Sprintf("%016x", s.ID), s.Address, state, fmt.Sprint(s.Owns.Len()), fmt.Sprint(s.Joins.Len()), left.Round(100 * time.Millisecond).String()})
				}
				if a.format == "json" {
					return a.writeJSON(list)
				}
				return a.writeTable([]string{"ID", "ADDRESS", "STATE", "STRIPES", "TAKING OVER", "LEASE"}, rows)
			})
		},
	}
	a.connectFlags(cmd)
	a.outputFlag(cmd)
	return cmd
}

// pageServerActCommand does something to a page server that is named by its id or address.
func (a *app) pageServerActCommand(use, short string, act func(context.Context, *client.Client, uint64) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use + " ID|ADDRESS",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				m, err := c.StripeMap(ctx)
				if err != nil {
					return err
				}
				id, _ := strconv.ParseUint(args[0], 16, 64)
				for _, s := range m.Servers {
					if s.Address == args[0] || s.ID == id {
						return act(ctx, c, s.ID)
					}
				}
				return exit.Usagef("there is no page server %q: see logcore page server ls", args[0])
			})
		},
	}
	a.connectFlags(cmd)
	return cmd
}
