"""Benchmarks: a hit, and a build, beside what people would use instead. See docs/benchmarks.rst."""
