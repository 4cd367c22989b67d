package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/logcore/logcore/engine/postgres/compute"
	"github.com/logcore/logcore/engine/postgres/receiver"
)

// serveAgent serves /metrics and /status of an agent beside a PostgreSQL server, on an address, until stop is called. Without an address it serves nothing.
func (a *app) serveAgent(addr string, m *receiver.Monitor, more ...prometheus.Collector) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(append(more, m)...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(m.Status()) // who asked is gone
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(a.err, "there are no metrics any more, the agent goes on: %v\n", err)
		}
	}()
	fmt.Fprintf(a.err, "metrics at http://%v/metrics\n", l.Addr())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
		<-done
	}, nil
}

// nodeMetrics are of the nodes that a run makes.
type nodeMetrics struct {
	made                prometheus.Counter
	build, start, pages prometheus.Gauge
}

func newNodeMetrics(log string) nodeMetrics {
	labels := prometheus.Labels{"log": log}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "logcore_postgres_node_" + name, Help: help, ConstLabels: labels})
	}
	return nodeMetrics{
		made:  prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_postgres_nodes_total", Help: "Nodes that took connections: the first one and those made after a crash.", ConstLabels: labels}),
		build: gauge("build_seconds", "How long the data directory of the last node took to be made."),
		start: gauge("start_seconds", "How long the last node's server took from then until it took connections."),
		pages: gauge("pages", "Pages of the last node that came from the page server; 0: it was made from the log alone."),
	}
}

func (n nodeMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{n.made, n.build, n.start, n.pages}
}

func (n nodeMetrics) ready(s compute.Started) {
	n.made.Inc()
	n.build.Set(s.Build.Seconds())
	n.start.Set(s.Start.Seconds())
	n.pages.Set(float64(s.Result.Pages))
}
