// Package tieringbench measures the archive tier beside what it can't be faster than: the
// Reed-Solomon coder's own best, the slowest stage of the pipeline alone, the same bytes put
// plainly by the same SDK. What is compared is measured in turns within one run, so that the
// machine is the same for both; the figures are ratios of medians.
package tieringbench
