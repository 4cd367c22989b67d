package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// clusterTimeout is how long a change of the members may take: a new one copies the log first.
const clusterTimeout = 15 * time.Minute

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "The members of a cluster: form one, add, remove and replace nodes, choose the leader",
		Long: `The members of a cluster.

A log service that was started with peer_listen is a node: a cluster of one. Further nodes are started with an
empty directory and the address of a node of the cluster as peers; each joins once it is added here. It
copies the log as a learner and votes when it has caught up. --addr may name any node: the one that leads is found.`,
	}
	cmd.AddCommand(a.clusterInitCommand(), a.clusterAddCommand(), a.clusterRemoveCommand(), a.clusterReplaceCommand(), a.clusterTransferCommand(), a.clusterStatusCommand())
	for _, c := range cmd.Commands() {
		a.connectFlags(c)
		if c.Name() != "status" && c.Name() != "transfer" {
			a.timeoutDefault(c, clusterTimeout)
		}
	}
	return cmd
}

// timeoutDefault gives --timeout of one command another default.
func (a *app) timeoutDefault(cmd *cobra.Command, d time.Duration) {
	f := cmd.Flags().Lookup("timeout")
	f.DefValue = d.String()
	next := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		if !f.Changed {
			a.timeout = d
		}
		if next != nil {
			return next(c, args)
		}
		return nil
	}
}

// atLeader runs f with the administration of the node at --addr, or of the one that leads when that refuses.
func (a *app) atLeader(ctx context.Context, f func(context.Context, logcorev1.AdminServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	addr := a.addr
	for {
		err := a.at(ctx, addr, f)
		if !errors.Is(err, logcore.ErrNotLeader) {
			return err
		}
		var remote *wire.RemoteError
		if errors.As(err, &remote) && remote.Detail.GetLeaderHint() != "" {
			addr = remote.Detail.GetLeaderHint()
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (a *app) at(ctx context.Context, addr string, f func(context.Context, logcorev1.AdminServiceClient) error) error {
	if err := a.reachable(ctx, addr, min(a.timeout, 5*time.Second)); err != nil {
		return err
	}
	conn, err := client.NewConn(addr, client.Options{Addr: addr, TLSFiles: a.tls, Logger: quiet(a)})
	if err != nil {
		return err
	}
	defer conn.Close()
	return wire.FromStatus(f(ctx, logcorev1.NewAdminServiceClient(conn)))
}

func parseNode(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil || id == 0 {
		return 0, exit.Usagef("%q is no node id: `logcore cluster status` shows them, 16 hexadecimal digits", text)
	}
	return id, nil
}

func (a *app) addNode(ctx context.Context, addr string, learner bool) error {
	return a.atLeader(ctx, func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		resp, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: addr, Learner: learner})
		if err == nil {
			fmt.Fprintf(a.out, "added %016x at %s\n", resp.Node, addr)
		}
		return err
	})
}

func (a *app) clusterInitCommand() *cobra.Command {
	var shards int
	cmd := &cobra.Command{
		Use:   "init PEER_ADDRESS...",
		Short: "Make a cluster of the node at --addr and those at the addresses",
		Long: `Make a cluster of the node at --addr, which may hold logs already, and the nodes at the addresses, which
were started with an empty directory. Every one of them votes when the command ends. It can be repeated.

--shards says how many shards the cluster is to have. A node that is alone gets more for it: it closes its logs and opens
them again, within a second or two. There can't be fewer, nor more once there are several nodes.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.wantShards(cmd.Context(), shards); err != nil {
				return err
			}
			for _, addr := range args {
				if err := a.addNode(cmd.Context(), addr, false); err != nil {
					return fmt.Errorf("add %s: %w", addr, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&shards, "shards", 0, "how many shards there are to be; 0 for those that there are")
	return cmd
}

// wantShards makes the node at --addr have so many shards, which it must be alone for; 0 is any number.
func (a *app) wantShards(ctx context.Context, want int) error {
	if want == 0 {
		return nil
	}
	if want < 0 {
		return exit.Usagef("--shards %d: want 1 or more, or 0 for those that there are", want)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	st, err := a.clusterStatus(ctx)
	if err != nil {
		return err
	}
	switch have := len(st.Shards); {
	case have == want:
		return nil
	case have > want || len(st.Members) != 1:
		return exit.Usagef("the cluster has %d shards, not %d: there can't be fewer, nor more once there are several nodes", have, want)
	}
	err = a.at(ctx, a.addr, func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		_, err := c.AddShards(ctx, &logcorev1.AddShardsRequest{Shards: uint32(want)})
		return err
	})
	if err != nil {
		return err
	}
	for {
		if st, err = a.clusterStatus(ctx); err == nil && len(st.Shards) == want {
			_, err = fmt.Fprintf(a.out, "the node at %s has %d shards\n", a.addr, want)
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond): // it opens its logs again
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the node at %s has not got %d shards in time: repeat the command", a.addr, want), err)
		}
	}
}

func (a *app) clusterAddCommand() *cobra.Command {
	var learner bool
	cmd := &cobra.Command{
		Use:   "add PEER_ADDRESS",
		Short: "Take a node in; it votes once it has caught up",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addNode(cmd.Context(), args[0], learner)
		},
	}
	cmd.Flags().BoolVar(&learner, "learner", false, "it copies the log and doesn't vote")
	return cmd
}

func (a *app) clusterRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out; refused when the others would have no quorum",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseNode(args[0])
			if err != nil {
				return err
			}
			err = a.atLeader(cmd.Context(), func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				_, err := c.RemoveMember(ctx, &logcorev1.RemoveMemberRequest{Node: id})
				return err
			})
			if err == nil {
				fmt.Fprintf(a.out, "removed %016x\n", id)
			}
			return err
		},
	}
}

func (a *app) clusterReplaceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replace NODE PEER_ADDRESS",
		Short: "Take a node in and another, which may be dead, out in one step",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseNode(args[0])
			if err != nil {
				return err
			}
			return a.atLeader(cmd.Context(), func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				resp, err := c.ReplaceMember(ctx, &logcorev1.ReplaceMemberRequest{Node: id, PeerAddress: args[1]})
				if err == nil {
					fmt.Fprintf(a.out, "replaced %016x by %016x at %s\n", id, resp.Node, args[1])
				}
				return err
			})
		},
	}
}

func (a *app) clusterTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Let another node lead, the one that is named or any that is fit",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req := &logcorev1.TransferLeaderRequest{}
			if len(args) == 1 {
				if req.Node, err = parseNode(args[0]); err != nil {
					return err
				}
			}
			return a.atLeader(cmd.Context(), func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				resp, err := c.TransferLeader(ctx, req)
				if err == nil {
					fmt.Fprintf(a.out, "led by %016x\n", resp.Leader)
				}
				return err
			})
		},
	}
}

type memberJSON struct {
	Node        string      `json:"node"`
	Role        string      `json:"role"`
	Leader      bool        `json:"leader"`
	Address     string      `json:"address"`
	PeerAddress string      `json:"peer_address"`
	LSN         logcore.LSN `json:"lsn"`
	Active      bool        `json:"active"`
	Behind      bool        `json:"behind"`
}

type clusterJSON struct {
	Cluster   string          `json:"cluster"`
	Leader    string          `json:"leader"`
	Term      uint64          `json:"term"`
	Committed logcore.LSN     `json:"committed_lsn"`
	Changing  bool            `json:"changing"`
	Members   []memberJSON    `json:"members"`
	Shards    []placementJSON `json:"shards"`
}

type placementJSON struct {
	Shard     uint32      `json:"shard"`
	Leader    string      `json:"leader"`
	Term      uint64      `json:"term"`
	Committed logcore.LSN `json:"committed_lsn"`
	Voters    int         `json:"voters"`
	Learners  int         `json:"learners"`
	Logs      uint64      `json:"logs"`
	LoadBytes uint64      `json:"load_bytes"`
}

func (a *app) clusterStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the members, how far each is and who leads",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
			defer cancel()
			st, err := a.clusterStatus(ctx)
			if err != nil {
				return err
			}
			return a.writeCluster(st)
		},
	}
	a.outputFlag(cmd)
	return cmd
}

// clusterStatus asks the node at --addr, and then the one that leads, which knows more.
func (a *app) clusterStatus(ctx context.Context) (st *logcorev1.ClusterStatusResponse, err error) {
	ask := func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
		st, err = c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
		return err
	}
	if err := a.at(ctx, a.addr, ask); err != nil {
		return nil, err
	}
	for _, m := range st.Members {
		if m.Node == st.Leader && st.Leader != st.Node && m.Address != "" {
			known := st
			if err := a.at(ctx, m.Address, ask); err != nil {
				return known, nil //nolint:nilerr // what the first one knows is an answer too
			}
			break
		}
	}
	return st, nil
}

func (a *app) writeCluster(st *logcorev1.ClusterStatusResponse) error {
	out := clusterJSON{Cluster: st.Cluster, Leader: fmt.Sprintf("%016x", st.Leader), Term: st.Term, Committed: logcore.LSN(st.CommittedLsn), Changing: st.Changing, Members: []memberJSON{}, Shards: []placementJSON{}}
	var rows [][]string
	for _, m := range st.Members {
		j := memberJSON{fmt.Sprintf("%016x", m.Node), m.Role, m.Node == st.Leader, m.Address, m.PeerAddress, logcore.LSN(m.MatchLsn), m.Active, m.Behind}
		out.Members = append(out.Members, j)
		state := "in contact"
		switch {
		case j.Leader:
			state = "leads"
		case st.Node != st.Leader && m.Node != st.Node:
			state = "not known here"
		case !m.Active:
			state = "not heard of"
		case m.Behind:
			state = "is being fed"
		}
		rows = append(rows, []string{j.Node, j.Role, state, fmt.Sprint(j.LSN), j.Address, j.PeerAddress})
	}
	var shards [][]string
	for _, p := range st.Shards {
		j := placementJSON{p.Shard, fmt.Sprintf("%016x", p.Leader), p.Term, logcore.LSN(p.CommittedLsn), len(p.Voters), len(p.Learners), p.Logs, p.LoadBytes}
		out.Shards = append(out.Shards, j)
		leader := j.Leader
		if p.Leader == 0 {
			leader = "none"
		}
		shards = append(shards, []string{fmt.Sprint(j.Shard), leader, fmt.Sprint(j.Term), j.Committed.String(), fmt.Sprint(j.Voters), fmt.Sprint(j.Learners), fmt.Sprint(j.Logs), sizeText(j.LoadBytes) + "/s"})
	}
	if a.format == "json" {
		return a.writeJSON(out)
	}
	if err := a.writeFields([]field{{"cluster", st.Cluster}, {"term", fmt.Sprint(st.Term)}, {"committed LSN", fmt.Sprint(st.CommittedLsn)}, {"members change", fmt.Sprint(st.Changing)}}); err != nil {
		return err
	}
	if err := a.writeTable([]string{"NODE", "ROLE", "STATE", "LSN", "ADDRESS", "PEER ADDRESS"}, rows); err != nil {
		return err
	}
	return a.writeTable([]string{"SHARD", "LEADER", "TERM", "COMMITTED", "VOTERS", "LEARNERS", "LOGS", "LOAD"}, shards)
}
