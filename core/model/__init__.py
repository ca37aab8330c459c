"""Values of the domain: job, limits, ending, channel, start of a stream."""
