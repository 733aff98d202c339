"""Model-based transfer: `(network, source_network, x) -> scalar`, what to keep of a network trained elsewhere."""
