"""Instance-based adaptation: functions (source (n, d), target (m, d)) -> weights (n,) that say how much each source sample counts."""
