"""What ships for tests of back ends, stores and launch scripts: fakes, and the contracts that all must keep."""
