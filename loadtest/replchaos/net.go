package replchaos

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Every node has two interfaces: one to the bridge of the clients, where this process has
// an address too, and one to the bridge of the nodes.
const (
	clientNet  = "10.201.77" // .1 is this process, .11 to .13 the nodes
	peerNet    = "10.202.77"
	servePort  = "7420"
	peerPort   = "7422"
	namePrefix = "lcx" // of everything made in the system
)

func command(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// commands runs each, until one fails.
func commands(lines ...string) error {
	for _, line := range lines {
		if err := command(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// link is a node's host-side interface to one of the bridges.
func link(kind string, i int) string { return fmt.Sprintf("%s%s%d", namePrefix, kind, i) }

func namespace(i int) string { return fmt.Sprintf("%s%d", namePrefix, i) }

// makeNet makes bridges, namespaces and interfaces.
func makeNet() error {
	removeNet()
	err := commands("ip link add "+namePrefix+"bc type bridge", "ip link set "+namePrefix+"bc up", "ip addr add "+clientNet+".1/24 dev "+namePrefix+"bc",
		"ip link add "+namePrefix+"bp type bridge", "ip link set "+namePrefix+"bp up")
	for i := range nodes {
		if err != nil {
			return err
		}
		err = commands("ip netns add "+namespace(i), "ip netns exec "+namespace(i)+" ip link set lo up")
		for _, n := range []struct{ kind, bridge, net string }{{"c", "bc", clientNet}, {"p", "bp", peerNet}} {
			host, inside := link(n.kind, i), n.kind+"0"
			err = errors.Join(err, commands(
				"ip link add "+host+" type veth peer name "+inside+" netns "+namespace(i),
				"ip link set "+host+" master "+namePrefix+n.bridge, "ip link set "+host+" up",
				fmt.Sprintf("ip netns exec %s ip addr add %s.%d/24 dev %s", namespace(i), n.net, 11+i, inside),
				"ip netns exec "+namespace(i)+" ip link set "+inside+" up"))
		}
	}
	return err
}

// removeNet removes what makeNet made, and what an earlier run left.
func removeNet() {
	for i := range nodes {
		_ = command("ip", "netns", "del", namespace(i)) // may not be there
		_ = command("ip", "link", "del", link("c", i))
		_ = command("ip", "link", "del", link("p", i))
	}
	_ = command("ip", "link", "del", namePrefix+"bc")
	_ = command("ip", "link", "del", namePrefix+"bp")
}

// cut takes a node's interface down, or up again.
func cut(kind string, i int, down bool) error {
	state := "up"
	if down {
		state = "down"
	}
	return command("ip", "link", "set", link(kind, i), state)
}

// deafen has a node hear nothing more from the other nodes, which still hear it: the queue
// towards it takes no packet.
func deafen(i int, deaf bool) error {
	dev := link("p", i)
	if !deaf {
		return command("tc", "qdisc", "del", "dev", dev, "root")
	}
	return command("tc", "qdisc", "add", "dev", dev, "root", "pfifo", "limit", "0")
}
