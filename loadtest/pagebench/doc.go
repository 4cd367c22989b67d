// Package pagebench measures the page server: how fast it ingests beside the store
// that it is built on, what a page costs by where it lies and how many deltas it has,
// what gRPC adds, and what time does to a store that is written all the while. What is
// compared takes turns in one run. Figures are JSON lines and a table.
package pagebench
