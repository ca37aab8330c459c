"""gRPC over HTTP/2: the only package that imports grpclib and h2."""
