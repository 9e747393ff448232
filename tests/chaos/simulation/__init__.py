"""Everything in one process, on a clock that jumps: the real operations, reapers and leases, among workers, people and faults of a seed."""
