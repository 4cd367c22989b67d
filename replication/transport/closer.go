package transport

import "sync"

// closer returns a function that closes c, once.
func closer(c chan struct{}) func() { return sync.OnceFunc(func() { close(c) }) }
