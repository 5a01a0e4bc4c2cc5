"""One process per active experiment: admission, gangs, stop requests, reconciliation; the only writer of states."""
