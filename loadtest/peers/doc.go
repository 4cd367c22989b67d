// Command peers measures the hot log beside the device's own limit and beside other
// write-ahead logs, on one disk and in one run. It is a module of its own, so that
// what the others depend on never enters the product.
//
// What the columns mean and how to read them is in docs/design/bench-hotlog.md.
package main
