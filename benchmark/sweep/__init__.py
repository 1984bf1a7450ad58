"""The sweep: what is fitted and evaluated, by which hash it is known, and how it runs on Ray Tune."""
