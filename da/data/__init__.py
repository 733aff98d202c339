"""Data: benchmarks as values, readers of what lies on disk, verified downloads, and batches that pair two domains.

domain       what a domain is in memory: Labelled, Unlabelled
benchmarks   what a benchmark is: domains, counts, classes, tasks, pinned sources
readers      a domain of a benchmark as a Labelled of uint8 images; folders and digit_files know the layouts on disk
cache        decoded and resized images, kept as one memory-mapped file
download     what can be fetched and verified, fetched and verified
"""
