"""The gRPC edge: server and client, TLS and roles, the method and error tables, the codec."""
