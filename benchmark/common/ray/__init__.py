"""The connection to Ray: a local instance or a cluster, its dashboard, its nodes."""
