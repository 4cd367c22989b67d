package client_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/replication"
)

func ExampleWriter() {
	dir, err := os.MkdirTemp("", "logcore-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	service, err := serve(dir, replication.Options{}) // or `logcore dev`, in a process of its own
	if err != nil {
		log.Fatal(err)
	}
	defer service.stop()

	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{Addr: service.addr})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w, err := c.OpenWriter(ctx, "orders", client.WriterOptions{Name: "example", Create: true})
	if err != nil {
		log.Fatal(err)
	}
	// One transaction of one part, and one of two; both are durable on return.
	if _, err := w.AppendTx(ctx, logcore.NewTxID(), [][]byte{[]byte("a pound of tea")}, nil); err != nil {
		log.Fatal(err)
	}
	if _, err := w.AppendTx(ctx, logcore.NewTxID(), [][]byte{[]byte("milk"), []byte("sugar")}, nil); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(ctx); err != nil {
		log.Fatal(err)
	}
	for batch, err := range c.Read(ctx, "orders", client.ReadOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range batch.Entries {
			fmt.Printf("%v: %s\n", e.Kind, e.Payload)
		}
	}
	// Output:
	// data: a pound of tea
	// part: milk
	// commit: sugar
}
