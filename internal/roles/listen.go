package roles

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/logcore/logcore/internal/exit"
)

// listen binds a TCP address; name is the setting that chose it.
func listen(name, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is in use by another process: stop that one, or choose another port with --%s HOST:PORT", name, addr, name)
	}
	return nil, fmt.Errorf("%s: can't listen on %s: %w", name, addr, err)
}

// requireLoopback refuses an address that other machines could reach.
func requireLoopback(name, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return exit.Usagef("%s: %q is not HOST:PORT, such as 127.0.0.1:7420", name, addr)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return exit.Usagef("%s: %q is not a loopback address: there is no authentication here yet, so this only serves its own machine; use 127.0.0.1:PORT", name, addr)
}
