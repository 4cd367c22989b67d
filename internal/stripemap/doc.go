// Package stripemap says which page belongs to which stripe and which page servers
// hold a stripe. Map is the state, Change a step of it that Check refuses when it
// would leave a stripe without an owner, and Plan decides which steps come next: all
// pure, without a clock and without I/O. The log service keeps the map in its catalog,
// page servers follow it and clients route by it.
package stripemap
