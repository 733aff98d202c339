"""Device code: kernel sums and their gradients, permutation statistics. The specification of the mathematics is da.kernels."""
