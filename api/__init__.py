"""The gRPC edge: server and client, TLS and roles, the tables of methods and errors, translation."""
